"""First pass over an archive: decode every image and keep what the build needs to know."""

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

ProgressCallback = Callable[[str, int, int], None]
"""Called with a stage (scan, compare, write), the images done in it and their total."""

BATCH = 32
"""Images per job."""


@dataclass(frozen=True, eq=False)
class Scan:
    """Facts about N images, in the order of their entries."""

    sizes: NDArray[np.int32]
    """Width and height in px (N, 2); 0 for bad images."""
    num_bytes: NDArray[np.int64]
    """Size of the file in the archive (N,)."""
    digests: NDArray[np.str_]
    """SHA-256 of the pixels (N,)."""
    thumbnails: NDArray[np.uint8]
    """Gray thumbnails (N, 48, 48) for `find_duplicates`."""
    faults: NDArray[np.str_]
    """What is wrong with the image (N,); empty if nothing is."""

    @classmethod
    def load(cls, path: Path) -> "Scan":
        """Load what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name] for name in arrays.files})

    def save(self, path: Path) -> None:
        """Write the file atomically."""
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


def scan(workers: WorkerPool, entries: Sequence[Entry], on_progress: ProgressCallback) -> Scan:
    """Decode every image of the archive that is the workers' state."""
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
        on_progress("scan", done, num)
    return Scan(sizes, num_bytes, digests, thumbnails, np.array(faults, dtype=np.str_))


def _scan_batch(archive: Archive, entries: Sequence[Entry]) -> list[_Scanned | str]:
    return [_scan_one(archive, entry) for entry in entries]


def _scan_one(archive: Archive, entry: Entry) -> _Scanned | str:
    """Return the facts about an image, or what is wrong with it."""
    try:
        data = archive.read(entry.member)
        pixels = decode_rgb(data, entry.member)
    except ImageFault as error:
        return str(error)
    except ValueError as error:  # raised by the archive: cards must not contain its path
        reason = str(error).removeprefix(str(archive.path)).lstrip(": ")
        return f"{entry.member}: {reason}, or leave it out with --skip-bad"
    height, width = pixels.shape[:2]
    return _Scanned(width, height, len(data), pixel_sha256(pixels), thumbnail(pixels))
