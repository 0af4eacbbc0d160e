"""Turn uploads into images: files, zips, and TIFFs with several pages.

Files that cannot be used are listed with the reason, in words for people who know cells and not
file formats. Each file is read in a worker process with limits of time and memory, so that none of
them can stop the page or take the other files with it.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hf_wbc.app.limits import LIMITS, Limits
from hf_wbc.app.upload_reader import (
    STORED,
    RejectedFile,
    StoredImage,
    UploadedImage,
    list_parts,
    read_part,
    shown_name,
    too_many,
)
from hf_wbc.data.decode_worker import DecodeWorkers, LimitExceeded

__all__ = [
    "RejectedFile", "UploadedFile", "UploadedImage", "Uploads", "read_uploads", "remove_all",
    "shown_name", "start_workers",
]  # fmt: skip

NUM_WORKERS = 2
"""Uploads that are read at a time."""
TURN_SECONDS = 1.0
"""Time after which the next upload is read, in turn.

Reading one upload after another lets the first be classified while the others are read. If uploads
took turns after each file, all of them would be read late and then wait for the model together.
"""
CPU_SECONDS, MEMORY_BYTES = 9, 3 * 2**29
"""Limits of one file: a progressive JPEG or an uncompressed TIFF of 100 megapixels takes more than
1 GB while it is decoded."""
MAX_EXCEEDED = 8
"""Files of one upload that may exceed the limits of a worker; then the rest is refused."""
Run = Callable[..., Any]
"""Calls a function with arguments, in a worker process or directly."""


@dataclass(frozen=True)
class UploadedFile:
    """An uploaded file."""

    name: str
    path: Path


@dataclass(frozen=True)
class Uploads:
    """The result of one upload."""

    pictures: tuple[UploadedImage, ...] = ()
    refused: tuple[RejectedFile, ...] = ()


@cache
def _workers() -> DecodeWorkers:
    return DecodeWorkers(NUM_WORKERS, CPU_SECONDS, MEMORY_BYTES)


def start_workers() -> None:
    """Start a worker process, so that the first upload need not wait for it."""
    _workers().run(len, b"")


@cache
def _readers() -> ThreadPoolExecutor:
    """Threads that wait for the worker processes; uploads have their turns in order."""
    return ThreadPoolExecutor(NUM_WORKERS, "read-uploads")


def _in_worker(function: Run, *args: Any) -> Any:
    return _workers().run(function, *args)


def read_uploads(
    given: Sequence[UploadedFile],
    limits: Limits = LIMITS,
    run: Run = _in_worker,
    measures: bool = False,
) -> Uploads:
    """Read the images of uploaded files, in the order of their names.

    A file beyond the limits is rejected and the others are accepted. An upload with too many
    files is rejected as a whole before any of them is read. With `measures`, the workers measure
    the scale of the images too, see `read_part`.
    """
    if len(given) > limits.num_cells:
        return Uploads(refused=(RejectedFile(f"{len(given):,} files", too_many(limits)),))
    items = [*_in_turns(_within_limits(_each(given, limits, run, measures), limits))]
    return Uploads(
        tuple(one for one in items if isinstance(one, UploadedImage)),
        tuple(one for one in items if isinstance(one, RejectedFile)),
    )


def _within_limits(
    items: Iterable[UploadedImage | RejectedFile], limits: Limits
) -> Iterator[UploadedImage | RejectedFile]:
    """Yield the items until the images exceed the limits of one upload."""
    num_images = num_bytes = 0
    for one in items:
        if isinstance(one, UploadedImage):
            num_images, num_bytes = num_images + 1, num_bytes + one.pixels.nbytes
            if num_bytes > limits.total_bytes or num_images > limits.num_cells:
                yield RejectedFile(one.name, f"it and what follows: {too_many(limits)}")
                return
        yield one


def _in_turns(
    items: Iterator[UploadedImage | RejectedFile],
) -> Iterator[UploadedImage | RejectedFile]:
    """Yield the items, which are computed in turns with those of other uploads."""
    while turn := _readers().submit(_one_turn, items).result():
        yield from turn


def _one_turn(
    items: Iterator[UploadedImage | RejectedFile],
) -> list[UploadedImage | RejectedFile]:
    """Return the next items, as many as one turn allows but at least one; [] at the end."""
    end = time.monotonic() + TURN_SECONDS
    found = []
    for item in items:
        found.append(item)
        if time.monotonic() > end:
            break
    return found


def _each(
    given: Sequence[UploadedFile], limits: Limits, run: Run, measures: bool
) -> Iterator[UploadedImage | RejectedFile]:
    """Read all parts of all files; whatever one of them raises, the others are read."""
    num_exceeded = 0
    for file in sorted(given, key=lambda file: file.name):
        name = shown_name(file.name)
        parts = _attempt(run, list_parts, file.path, name, limits)
        num_exceeded += isinstance(parts, _Exceeded)
        if isinstance(parts, RejectedFile):
            yield parts
            continue
        for part in parts:
            found = _attempt(run, read_part, file.path, name, part, limits, measures)
            num_exceeded += isinstance(found, _Exceeded)
            for one in [found] if isinstance(found, RejectedFile) else found:
                yield one.mapped() if isinstance(one, StoredImage) else one
            if num_exceeded > MAX_EXCEEDED:
                yield RejectedFile("what follows", "reading the files before took too long")
                return


class _Exceeded(RejectedFile):
    """A file that exceeded the limits of a worker."""


def _attempt(run: Run, function: Run, path: Path, name: str, *args: Any) -> Any:
    """Call a function of the reader; a file that cannot be read is rejected with the reason."""
    part = next((each for each in args if isinstance(each, str)), None)
    shown = name if part is None else f"{name}: {shown_name(part)}"
    try:
        return run(function, path, name, *args)
    except LimitExceeded:
        for unfinished in path.parent.glob(f"{STORED}*"):
            unfinished.unlink(missing_ok=True)
        return _Exceeded(
            shown, "the file takes too long or too much memory to read; export it again"
        )
    except OSError as error:
        return RejectedFile(shown, f"cannot be read ({error.strerror}); upload it again")
    except Exception:
        return RejectedFile(shown, "the file is damaged or incomplete; export it again")


def remove_all(given: Iterable[UploadedFile]) -> None:
    """Delete uploaded files and the folders that were created for them."""
    for file in given:
        file.path.unlink(missing_ok=True)
        with suppress(OSError):  # the folder still holds other files
            file.path.parent.rmdir()
            file.path.parent.parent.rmdir()
