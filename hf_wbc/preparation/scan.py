"""The first pass: every image is decoded once, and what a build has to know of it is kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.archive import Archive
from hf_wbc.data.image_io import ImageFault, decode_rgb, pixel_sha256
from hf_wbc.data.parallel import WorkerPool
from hf_wbc.preparation.duplicates import THUMBNAIL_PX, thumbnail
from hf_wbc.preparation.source import Entry
from hf_wbc.preparation.work_folder import flush_to_disk

Report = Callable[[str, int, int], None]
"""Called with a stage (scan, compare, write), what is done of it and how much it is, in images."""

BATCH = 32
"""Images of a job."""


@dataclass(frozen=True, eq=False)
class Scan:
    """N images in the order of their entries."""

    sizes: NDArray[np.int32]
    """Width and height in px (N, 2); 0 where the image is bad."""
    num_bytes: NDArray[np.int64]
    """Of the file in the archive (N,)."""
    digests: NDArray[np.str_]
    """SHA-256 of the pixels (N,)."""
    thumbnails: NDArray[np.uint8]
    """(N, 48, 48)."""
    faults: NDArray[np.str_]
    """What is wrong with the image (N,), naming it; empty when nothing is."""

    @classmethod
    def load(cls, path: Path) -> "Scan":
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})

    def save(self, path: Path) -> None:
        """Write a file that is whole when it is there."""
        temporary = path.with_suffix(".partial.npz")
        try:
            np.savez(temporary, **vars(self))
            flush_to_disk(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Scanned:
    width: int
    height: int
    num_bytes: int
    digest: str
    thumbnail: NDArray[np.uint8]


def scan(workers: WorkerPool, entries: Sequence[Entry], report: Report) -> Scan:
    """Decode every image of an archive, which is the workers' state."""
    num = len(entries)
    sizes = np.zeros((num, 2), dtype=np.int32)
    num_bytes = np.zeros(num, dtype=np.int64)
    digests = np.zeros(num, dtype="U64")
    thumbnails = np.zeros((num, THUMBNAIL_PX, THUMBNAIL_PX), dtype=np.uint8)
    faults = [""] * num
    jobs = [(entries[start : start + BATCH],) for start in range(0, num, BATCH)]
    done = 0
    for job, results in workers.run(_scan_batch, jobs):
        for row, found in enumerate(results, start=job * BATCH):
            if isinstance(found, str):
                faults[row] = found
                continue
            sizes[row] = found.width, found.height
            num_bytes[row] = found.num_bytes
            digests[row] = found.digest
            thumbnails[row] = found.thumbnail
        done += len(results)
        report("scan", done, num)
    return Scan(sizes, num_bytes, digests, thumbnails, np.array(faults, dtype=np.str_))


def _scan_batch(archive: Archive, entries: Sequence[Entry]) -> list[_Scanned | str]:
    return [_scan_one(archive, entry) for entry in entries]


def _scan_one(archive: Archive, entry: Entry) -> _Scanned | str:
    """What is known of an image, or what is wrong with it."""
    try:
        data = archive.read(entry.member)
        pixels = decode_rgb(data, entry.member)
    except ImageFault as error:
        return str(error)
    except ValueError as error:  # the archive's: a card must not tell where that lies
        reason = str(error).removeprefix(str(archive.path)).lstrip(": ")
        return f"{entry.member}: {reason}, or go on without it with --skip-bad"
    height, width = pixels.shape[:2]
    return _Scanned(width, height, len(data), pixel_sha256(pixels), thumbnail(pixels))
