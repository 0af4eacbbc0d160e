"""Cache the images of a domain as fixed-size pixels, cropped to 25 um and resized for the model.

The result is a memory-mapped Arrow column of uint8 bytes in the cache of the datasets library. Its
key is a digest of everything that determines the bytes: the rows and their images, the geometry,
the versions of Pillow, torch and torchvision, and the cache format.
"""

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.arithmetic import with_arithmetic
from hf_wbc.data.crop import Geometry, crop_and_resize
from hf_wbc.data.dataset import DomainSplit
from hf_wbc.data.parallel import WorkerPool, num_cores, prefetch
from hf_wbc.data.stated_pixels import decode_row
from hf_wbc.data.table import Table
from hf_wbc.file_lock import exclusive_lock
from hf_wbc.records import atomic_replace

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 3
"""Version of the cache format; increase it when the same rows would give different bytes."""
_PIXELS = "pixels"
_ROWS_AT_ONCE = 128
_ROWS_PER_JOB = 32
_DELETE = "delete that folder, and repeat the command"
_ROWS_PER_PROCESS = 2048
"""Smallest number of rows for which another process pays off, which takes seconds to start."""


def cache_pixels(
    domain: DomainSplit,
    geometry: Geometry,
    num_proc: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Table:
    """Return a domain's rows as pixels, which are computed once and then read from the cache.

    Args:
        domain: The rows.
        geometry: Size of the squares and interpolation.
        num_proc: Number of processes; None uses all cores if there are many rows.
        on_progress: Called with the number of rows done, and the total; not for cached rows.

    Returns:
        A table of pixels (N, size, size, 3), uint8.

    Raises:
        ValueError: If an image is damaged, does not match its `pixel_sha256`, or is smaller than
            the square.
    """
    if not len(domain):
        none = np.empty((0, geometry.size, geometry.size, 3), np.uint8)
        return Table.unlabeled(none, name=domain.name)
    folder = _folder(domain, geometry)
    with exclusive_lock(folder.with_suffix(".lock"), "", on_wait=lambda: None):
        if not folder.is_dir():
            _build(domain, geometry, folder, num_proc, on_progress)
    return _open(domain, geometry, folder)


def stream_pixels(
    domain: DomainSplit,
    geometry: Geometry,
    rows: NDArray[np.int64],
    rows_at_once: int,
    num_proc: int | None = None,
) -> Generator[NDArray[np.uint8]]:
    """Yield the pixels of rows once, in blocks, without caching them.

    Rows come from the cache if `cache_pixels` has built it. Otherwise the next block is decoded
    while the caller uses the last one.

    Args:
        domain: The rows.
        geometry: Size of the squares and interpolation.
        rows: Row numbers (N,), in the order of the result.
        rows_at_once: Rows of a block.
        num_proc: Number of processes that decode; None uses all cores if there are many rows.

    Yields:
        Pixels (B, size, size, 3), uint8.

    Raises:
        ValueError: As for `cache_pixels`.
    """
    starts, folder = range(0, len(rows), rows_at_once), _folder(domain, geometry)
    blocks = (rows[start : start + rows_at_once] for start in starts)
    if folder.is_dir():
        table = _open(domain, geometry, folder)
        for block in blocks:
            yield table.batch(block).numpy()
        return
    yield from prefetch(_decode_blocks(domain, geometry, blocks, len(rows), num_proc))


def _decode_blocks(
    domain: DomainSplit,
    geometry: Geometry,
    blocks: Iterator[NDArray[np.int64]],
    num_rows: int,
    num_proc: int | None,
) -> Iterator[NDArray[np.uint8]]:
    num = choose_num_processes(num_rows, num_proc) or 1
    with WorkerPool(num, (domain, geometry)) as workers:
        for block in blocks:
            jobs = [(block[i : i + _ROWS_PER_JOB],) for i in range(0, len(block), _ROWS_PER_JOB)]
            yield np.concatenate(workers.map(_decode_rows, jobs))


def _decode_rows(state: tuple[DomainSplit, Geometry], rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the pixels (B, size, size, 3) of the given rows."""
    domain, geometry = state
    found = domain.dataset.with_format("arrow")[rows.tolist()]
    return np.stack([_square_of(row, geometry, domain.ref) for row in _needed(found)])


def _folder(domain: DomainSplit, geometry: Geometry) -> Path:
    """Return the folder of the cached column."""
    from datasets import config

    return Path(config.HF_DATASETS_CACHE) / "hf_wbc" / "pixels" / _key(domain, geometry)


def _open(domain: DomainSplit, geometry: Geometry, folder: Path) -> Table:
    """Return the cached column as a table of pixels; ValueError if a power cut damaged it."""
    try:
        files = sorted(folder.glob("*.arrow"))
        chunks = [chunk for path in files for chunk in _chunks(path, geometry)]
    except (OSError, ValueError) as error:  # Arrow raises both
        raise ValueError(f"the cached pixels {folder} are damaged ({error}); {_DELETE}") from error
    if (num_rows := sum(map(len, chunks))) != len(domain):
        raise ValueError(
            f"the cached pixels {folder} are damaged ({num_rows} of {len(domain)} rows); {_DELETE}"
        )
    return Table(
        chunks=tuple(chunks),
        labels=domain.labels,
        domains=np.zeros(len(domain), dtype=np.int64),
        image_ids=domain.image_ids,
        domain_names=(domain.name,),
    )


def _key(domain: DomainSplit, geometry: Geometry) -> str:
    """Return the digest of everything that determines the bytes."""
    facts = {
        "rows": domain.fingerprint,
        "geometry": asdict(geometry),
        "versions": {name: version(name) for name in ("pillow", "torch", "torchvision")},
        "format": FORMAT,
    }
    text = json.dumps(with_arithmetic(facts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _build(
    domain: DomainSplit,
    geometry: Geometry,
    folder: Path,
    num_proc: int | None,
    on_progress: Callable[[int, int], None],
) -> None:
    """Write the column atomically to `folder`."""
    import pyarrow as pa

    width, num_rows, done = 3 * geometry.size**2, len(domain), 0
    schema = pa.schema([(_PIXELS, pa.binary(width))])
    num_at_once = max(
        _ROWS_AT_ONCE, _ROWS_PER_JOB * (choose_num_processes(num_rows, num_proc) or 1)
    )
    starts = range(0, num_rows, num_at_once)
    blocks = (np.arange(start, min(start + num_at_once, num_rows)) for start in starts)
    on_progress(0, num_rows)
    with atomic_replace(folder) as part:
        part.mkdir()
        with (
            pa.OSFile(str(part / "pixels.arrow"), "wb") as file,
            pa.ipc.new_stream(file, schema) as writer,
        ):
            for pixels in _decode_blocks(domain, geometry, blocks, num_rows, num_proc):
                data = pa.py_buffer(np.ascontiguousarray(pixels))
                column = pa.Array.from_buffers(schema.types[0], len(pixels), [None, data])
                writer.write_batch(pa.record_batch([column], schema=schema))
                done += len(pixels)
                on_progress(done, num_rows)


def choose_num_processes(num_rows: int, num_proc: int | None) -> int | None:
    """Return the number of processes for `num_rows` rows, or None to use this process only.

    Args:
        num_rows: Number of rows.
        num_proc: Largest number of processes; None means all cores.
    """
    num = min(num_proc or num_cores(), max(1, num_rows // _ROWS_PER_PROCESS))
    return num if num > 1 else None


def _needed(rows: "pa.Table") -> list[dict[str, Any]]:
    """Return what `_square_of` needs of each row."""
    columns = ["image", "image_id", "um_per_px", "pixel_sha256"]
    found: list[dict[str, Any]] = rows.select(columns).to_pylist()
    return found


def _square_of(row: Mapping[str, Any], geometry: Geometry, ref: str) -> NDArray[np.uint8]:
    name = f"{ref}: {row['image_id']}"
    pixels = decode_row(row, name)
    try:
        return crop_and_resize(pixels, row["um_per_px"], geometry)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _chunks(path: Path, geometry: Geometry) -> Sequence[NDArray[np.uint8]]:
    """Return the column's batches as views (n, size, size, 3) of the memory-mapped file."""
    import pyarrow as pa

    size = geometry.size
    column = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()[_PIXELS]
    views = []
    for chunk in column.chunks:
        data = np.frombuffer(chunk.buffers()[1], dtype=np.uint8)
        start = chunk.offset * 3 * size**2
        views.append(data[start : start + len(chunk) * 3 * size**2].reshape(-1, size, size, 3))
    return views
