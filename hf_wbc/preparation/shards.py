"""Second pass over an archive: write Parquet shards, each by one process and atomically.

The bytes of a shard depend only on its rows and on the versions of Pillow and pyarrow.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hf_wbc.data.archive import Archive
from hf_wbc.data.crop import crop_um
from hf_wbc.data.image_io import clean_bytes, decode_rgb, encode_png, pixel_sha256
from hf_wbc.data.schema import CONFIGS, SPLITS
from hf_wbc.preparation.rows import Row
from hf_wbc.preparation.work_folder import flush_to_disk
from hf_wbc.records import unique_tag

ROWS_PER_SHARD = 512
ROWS_PER_GROUP = 64
"""Rows per row group, the unit that a viewer or a stream reads at once: about 4 MB."""
# Content-defined page boundaries, as `datasets` writes them, let the Hub deduplicate pages.
_CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
_IMAGE_LEAVES = ("image.bytes", "image.path")


@dataclass(frozen=True)
class Shard:
    """Consecutive rows of a split; one file in each config."""

    split: str
    number: int
    total: int
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """File name without suffix: `train-00000-of-00020`."""
        return f"{self.split}-{self.number:05d}-of-{self.total:05d}"


@dataclass(frozen=True)
class Written:
    """Facts about a shard on disk."""

    num_rows: int
    num_bytes: dict[str, int]
    """Bytes in memory, by config."""
    file_bytes: dict[str, int]
    """Bytes on disk, by config."""


@dataclass(frozen=True)
class ShardFormat:
    """What all shards of a dataset have in common."""

    folder: str
    """The build folder of a `WorkFolder`."""
    domain: str
    um_per_px: float | None
    schema: pa.Schema


def plan_shards(rows: Sequence[Row], splits: Sequence[str], seed: int) -> list[Shard]:
    """Divide the rows of each split into shards of up to `ROWS_PER_SHARD`, with classes mixed.

    The order follows the SHA-256 of seed and image id. A split without rows gets no shard, because
    `datasets` cannot load a file without rows.
    """
    shards = []
    for split in SPLITS:
        chosen = [row for row, of in zip(rows, splits, strict=True) if of == split]
        chosen.sort(
            key=lambda row: hashlib.sha256(f"{seed}/{row.entry.image_id}".encode()).digest()
        )
        total = -(-len(chosen) // ROWS_PER_SHARD)
        shards += [
            Shard(split, number, total, tuple(chosen[start : start + ROWS_PER_SHARD]))
            for number, start in enumerate(range(0, len(chosen), ROWS_PER_SHARD))
        ]
    return shards


def find_written(folder: Path, shard: Shard) -> Written | None:
    """Return what `write_shard` recorded if the shard is finished and its files are intact."""
    note = folder / "done" / f"{shard.name}.json"
    try:
        written = Written(**json.loads(note.read_text(encoding="utf-8")))
        found = {config: _place(folder, config, shard).stat().st_size for config in CONFIGS}
    except (FileNotFoundError, TypeError, ValueError):  # missing or damaged
        return None
    return written if found == written.file_bytes else None


def write_shard(archive: Archive, form: ShardFormat, shard: Shard) -> Written:
    """Write a shard's file of each config.

    Raises:
        ValueError: An image is not the one that was scanned.
    """
    folder, tag = Path(form.folder), unique_tag()
    temporary = {
        config: folder / "temporary" / f"{config}-{shard.name}.{tag}" for config in CONFIGS
    }
    num_bytes = dict.fromkeys(CONFIGS, 0)
    with ExitStack() as files:
        writers = [files.enter_context(_writing(temporary[c], form.schema)) for c in CONFIGS]
        for start in range(0, len(shard.rows), ROWS_PER_GROUP):
            columns = _columns(archive, form, shard.rows[start : start + ROWS_PER_GROUP])
            for config, writer, rows in zip(CONFIGS, writers, columns, strict=True):
                table = pa.Table.from_pylist(rows, schema=form.schema)
                num_bytes[config] += table.nbytes
                writer.write_table(table)
    sizes = {config: path.stat().st_size for config, path in temporary.items()}
    for config, path in temporary.items():
        flush_to_disk(path, _place(folder, config, shard))
    written = Written(len(shard.rows), num_bytes, sizes)
    note = folder / "temporary" / f"{shard.name}.{tag}.json"
    note.write_text(json.dumps(asdict(written)), encoding="utf-8")
    flush_to_disk(note, folder / "done" / f"{shard.name}.json")
    return written


def _place(folder: Path, config: str, shard: Shard) -> Path:
    return folder / "out" / config / f"{shard.name}.parquet"


@contextmanager
def _writing(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Open a Parquet file that is complete afterwards; an error deletes it."""
    plain = [name for name in schema.names if name != "image"]
    writer = pq.ParquetWriter(
        path,
        schema,
        compression=dict.fromkeys(_IMAGE_LEAVES, "none") | dict.fromkeys(plain, "snappy"),
        use_dictionary=plain,
        column_encoding=dict.fromkeys(_IMAGE_LEAVES, "PLAIN"),
        use_content_defined_chunking=_CHUNKING,
        write_page_index=True,
    )
    try:
        yield writer
        writer.close()
    except BaseException:
        writer.is_open = False  # otherwise it retries writing the footer on a full disk
        path.unlink(missing_ok=True)
        raise


def _columns(
    archive: Archive, form: ShardFormat, rows: Sequence[Row]
) -> tuple[list[Mapping[str, Any]], ...]:
    """Return the rows of each config."""
    return tuple(zip(*(_both(archive, form, row) for row in rows), strict=True))


def _both(archive: Archive, form: ShardFormat, row: Row) -> Iterator[dict[str, Any]]:
    """Yield a row in each config: the frame, and its central 25 um."""
    data = archive.read(row.entry.member)
    pixels = decode_rgb(data, row.entry.member)
    if pixel_sha256(pixels) != row.pixel_sha256:
        raise ValueError(
            f"{archive.path}: {row.entry.member} changed while it was being read; do not modify "
            "the archive during a build, and run the same command again"
        )
    frame = clean_bytes(data, pixels)
    if form.um_per_px is None:  # the cell fills the frame
        crop, cropped = pixels, frame
    else:
        crop = crop_um(pixels, form.um_per_px)
        cropped = encode_png(crop)
    yield _row(form, row, frame, row.pixel_sha256)
    yield _row(form, row, cropped, pixel_sha256(crop))


def _row(form: ShardFormat, row: Row, encoded: bytes, digest: str) -> dict[str, Any]:
    """Assemble a row as `hf_wbc.data.schema` defines it."""
    suffix = ".png" if encoded.startswith(b"\x89PNG") else ".jpg"
    return {
        "image": {
            "bytes": encoded,
            "path": PurePosixPath(row.entry.image_id).with_suffix(suffix).name,
        },
        "label": row.label,
        "source_label": row.entry.source_label,
        "domain": form.domain,
        "image_id": row.entry.image_id,
        "group": row.entry.group,
        "um_per_px": form.um_per_px,
        "pixel_sha256": digest,
    }
