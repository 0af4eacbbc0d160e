"""Load a domain: one split of one prepared dataset, from a folder or from the Hub.

Rows are read directly from the Parquet files and validated. The dataset's README is not used,
because the cache that the datasets library keeps of a local folder is not refreshed when only the
Parquet files change. The cached Arrow copy is stored under the fingerprint of the rows, which
includes the bytes of their images, so that it never stands in for other rows, whatever a dataset
states of itself.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_wbc.data.archive_names import domain_name
from hf_wbc.data.crop import crop_side
from hf_wbc.data.file_kinds import LFS_MARK, LFS_POINTER
from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.data.image_io import ImageFault, image_size
from hf_wbc.data.parquet_tables import iter_batches, read_table
from hf_wbc.data.schema import CONFIGS, CROP_UM, DEFAULT_CONFIG, PROVENANCE, SPLITS, row_features
from hf_wbc.file_lock import exclusive_lock
from hf_wbc.records import atomic_replace, read_json
from hf_wbc.taxonomy import NAMES, NUM_CLASSES, UNLABELED
from hf_wbc.text import did_you_mean

if TYPE_CHECKING:
    import datasets

_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>\S+))?")
_SHARD = re.compile(r"(?P<split>\w+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.parquet")
_FACTS = ("image_id", "label", "group", "um_per_px", "pixel_sha256")
_ROWS_AT_ONCE = 128
_REBUILD = "build it again with `hf-wbc prepare`"


@dataclass(frozen=True, eq=False)
class DomainSplit:
    """N rows of one split of a domain; N is 0 if `prepare` assigned no image to the split."""

    ref: str
    """Reference as the user gave it: a folder, or `org/name[@revision]` on the Hub."""
    name: str
    """Name of the domain, from the `domain` column, such as `acevedo_20`."""
    split: str
    """One of "train", "validation" and "test"."""
    dataset: "datasets.Dataset" = field(repr=False)
    """The rows, with the schema of `hf_wbc.data.schema`."""
    labels: np.ndarray = field(repr=False)
    """Class ids (N,), int64; -1 is unlabeled."""
    image_ids: list[str] = field(repr=False)
    """File name of each row in the original archive."""
    groups: np.ndarray | None = field(repr=False)
    """Patient, slide or session of each row (N,); None if any is unknown."""
    um_per_px: float | None
    """Scale in um per pixel; None if it is unknown because the cell fills the frame."""
    bytes_sha256: list[bytes] = field(repr=False)
    """SHA-256 of each row's image as it is stored."""
    fingerprint: str
    """SHA-256 of the rows' metadata and the bytes of their images; independent of the location."""
    revision: str | None
    """Commit on the Hub; None for a folder."""

    def __len__(self) -> int:
        return len(self.labels)


def load_split(ref: str, split: str, config: str = DEFAULT_CONFIG) -> DomainSplit:
    """Load one split of a prepared folder or a Hub dataset.

    Args:
        ref: Folder, or `org/name[@revision]` on the Hub.
        split: One of "train", "validation" and "test".
        config: "cropped" or "original".

    Raises:
        ValueError: If the dataset is missing or incomplete, does not match the schema or the
            classes, mixes domains or scales, or its crops do not match the scale of its rows.
    """
    (domain,) = load_splits(ref, [split], config)
    return domain


def load_splits(
    ref: str, splits: Sequence[str] = SPLITS, config: str = DEFAULT_CONFIG
) -> list[DomainSplit]:
    """Load several splits, all from the same commit if they are on the Hub.

    Args:
        ref: Folder, or `org/name[@revision]` on the Hub.
        splits: Names of the splits.
        config: "cropped" or "original".

    Raises:
        ValueError: As for `load_split`.
    """
    for what, values, known in (("split", splits, SPLITS), ("config", [config], CONFIGS)):
        for value in values:
            if value not in known:
                raise ValueError(f"unknown {what} {value!r}; {did_you_mean(value, known)}")
    folder, revision = _locate(ref, splits, config)
    empty = empty_splits(folder)
    if empty.issuperset(splits):  # another split states domain and scale
        others = [split for split in SPLITS if split not in empty]
        folder, _ = _locate(ref, others, config, revision)
    return [
        _empty(ref, folder / config, split, empty, revision)
        if split in empty
        else _load(ref, folder / config, split, revision)
        for split in splits
    ]


def empty_splits(folder: Path) -> frozenset[str]:
    """Return the splits to which `hf-wbc prepare` assigned no image.

    Without the statement in provenance.json, missing files are those of an incomplete download.
    """
    if not (folder / PROVENANCE).is_file():
        return frozenset()
    stated = read_json(folder / PROVENANCE, _REBUILD).get("num_rows")
    if not isinstance(stated, dict) or not any(stated.get(split) for split in SPLITS):
        return frozenset()
    return frozenset(split for split in SPLITS if stated.get(split) == 0)


def no_images(ref: str, splits: Sequence[str], flag: str = "--splits") -> str:
    """Return the error message for splits without images; `flag` is what chooses others."""
    others = [split.split for split in load_splits(ref) if len(split)]
    return (
        f"{ref} has no {' and no '.join(splits)} images, which is usual for few patients or few "
        f"images; use {flag} {' '.join(others)}"
    )


def _empty(
    ref: str, folder: Path, split: str, empty: frozenset[str], revision: str | None
) -> DomainSplit:
    """Return a split without rows; its domain and scale are those of the other splits."""
    from datasets import Dataset

    if any(folder.glob(f"{split}-*.parquet")):
        raise ValueError(f"{ref}: {PROVENANCE} states that {split} has no rows; {_REBUILD}")
    full = [each for each in SPLITS if each not in empty and any(folder.glob(f"{each}-*.parquet"))]
    files = parquet_shards(ref, folder, full[0])
    check_schema(ref, files)
    facts = _read_facts(files)
    features = row_features()
    return DomainSplit(
        ref=ref,
        name=domain_name(ref, _only(ref, "domain", facts["domain"])),
        split=split,
        dataset=Dataset.from_dict({name: [] for name in features}, features=features),
        labels=np.empty(0, np.int64),
        image_ids=[],
        groups=np.empty(0, np.str_),
        um_per_px=_scale(ref, facts["um_per_px"]),
        bytes_sha256=[],
        fingerprint=_fingerprint({name: [] for name in _FACTS}, []),
        revision=revision,
    )


def _load(ref: str, folder: Path, split: str, revision: str | None) -> DomainSplit:
    files = parquet_shards(ref, folder, split)
    check_schema(ref, files)
    facts, bytes_sha256 = _read_facts(files), _image_digests(files)
    fingerprint = _fingerprint(facts, bytes_sha256)
    um_per_px = _scale(ref, facts["um_per_px"])
    dataset = _read(files, fingerprint)
    if folder.name == DEFAULT_CONFIG and um_per_px is not None:
        _require_crop(ref, dataset, um_per_px)
    return DomainSplit(
        ref=ref,
        name=domain_name(ref, _only(ref, "domain", facts["domain"])),
        split=split,
        dataset=dataset,
        labels=_labels(ref, facts["label"]),
        image_ids=facts["image_id"],
        groups=None if None in facts["group"] else np.array(facts["group"], dtype=np.str_),
        um_per_px=um_per_px,
        bytes_sha256=bytes_sha256,
        fingerprint=fingerprint,
        revision=revision,
    )


def _locate(
    ref: str, splits: Sequence[str], config: str, revision: str | None = None
) -> tuple[Path, str | None]:
    """Return the folder that holds the files, and the commit if it comes from the Hub.

    On the Hub, `revision` overrides that of `ref`.
    """
    if Path(ref).is_dir():
        return Path(ref), None
    match = _HUB.fullmatch(ref)
    if not match:
        raise ValueError(
            f"{ref}: no such folder; give a folder that `hf-wbc prepare` wrote, "
            "or a Hub dataset as org/name or org/name@revision"
        )
    patterns = [PROVENANCE, *(f"{config}/{split}-*.parquet" for split in splits)]
    try:
        snapshot = fetch_snapshot(match["repo"], "dataset", revision or match["revision"], patterns)
    except ValueError as error:
        raise ValueError(f"{ref}: no such folder, and the Hub's dataset: {error}") from error
    return snapshot, snapshot.name


def parquet_shards(ref: str, folder: Path, split: str) -> list[Path]:
    """Return the Parquet files of a split in order; raise ValueError if any is missing."""
    found = sorted(folder.glob(f"{split}-*.parquet"))
    names = [_SHARD.fullmatch(path.name) for path in found]
    numbers = [int(name["number"]) for name in names if name]
    totals = {int(name["total"]) for name in names if name}
    if not found or None in names or totals != {len(found)} or numbers != [*range(len(found))]:
        listing = ", ".join(path.name for path in found) or "nothing"
        raise ValueError(
            f"{ref}: {folder.name}/ should contain {split}-00000-of-0000N.parquet and so on, but "
            f"contains {listing}; {_REBUILD}"
        )
    return found


def check_schema(ref: str, files: Sequence[Path]) -> None:
    """Raise ValueError if a column is missing, or column types or class names differ."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Features

    for path in files:
        try:
            found = Features.from_arrow_schema(pq.read_schema(path))
        except (OSError, pa.ArrowException) as error:
            raise _unreadable([path], error) from error
        for name, wanted in row_features().items():
            if name not in found:
                raise ValueError(
                    f"{ref}: {path.name} has no column {name!r}, so it is not a dataset of hf_wbc; "
                    f"{_REBUILD}"
                )
            label = found[name]
            if isinstance(label, ClassLabel) and tuple(label.names) != NAMES:
                raise ValueError(
                    f"{ref}: its classes are {', '.join(label.names)} instead of "
                    f"{', '.join(NAMES)}; {_REBUILD}"
                )
            if type(label) is not type(wanted) or label.dtype != wanted.dtype:
                raise ValueError(f"{ref}: column {name!r} is {label}, not {wanted}; {_REBUILD}")


def _read_facts(files: Sequence[Path]) -> dict[str, list[Any]]:
    """Read all columns except the images."""
    import pyarrow as pa

    try:
        tables = [read_table(path, [*_FACTS, "domain"]) for path in files]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _unreadable(files, error) from error
    facts: dict[str, list[Any]] = pa.concat_tables(tables).to_pydict()
    if not facts["label"]:
        raise ValueError(f"{files[0].parent}: no rows in {files[0].name}; {_REBUILD}")
    return facts


def _image_digests(files: Sequence[Path]) -> list[bytes]:
    """Return the SHA-256 of the bytes of each row's image; files are read again if they change."""
    return [digest for path in files for digest in _file_digests(path, _state(path))]


def _state(path: Path) -> tuple[int, ...]:
    """Return a fingerprint of a file's status; unlike mtime, users cannot set the ctime in it."""
    facts = path.stat()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


@lru_cache(maxsize=1024)
def _file_digests(path: Path, state: tuple[int, ...]) -> tuple[bytes, ...]:
    """Return the digests of one Parquet file, which are kept as long as its state is the same."""
    import pyarrow as pa

    digests: list[bytes] = []
    try:
        for batch in iter_batches(path, ["image"], _ROWS_AT_ONCE):
            column = batch.column(0)
            data = column.flatten()[column.type.get_field_index("bytes")]
            digests += (hashlib.sha256(value.as_buffer() or b"").digest() for value in data)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _unreadable([path], error) from error
    return tuple(digests)


def _fingerprint(facts: Mapping[str, list[Any]], bytes_sha256: Sequence[bytes]) -> str:
    """Return the SHA-256 of the rows' metadata and images as JSON, one row per line."""
    digest = hashlib.sha256()
    for *row, image in zip(*(facts[name] for name in _FACTS), bytes_sha256, strict=True):
        digest.update(json.dumps([*row, image.hex()]).encode() + b"\n")
    return digest.hexdigest()


def _read(files: Sequence[Path], fingerprint: str) -> "datasets.Dataset":
    """Return the rows, memory-mapped from an Arrow copy in the datasets cache.

    `Dataset.from_parquet` would take `[`, `*`, `?` and `::` in a path for patterns.
    """
    from datasets import Dataset, config

    copy = Path(config.HF_DATASETS_CACHE) / "hf_wbc" / "rows" / f"{fingerprint}.arrow"
    with exclusive_lock(copy.with_suffix(".lock"), "", on_wait=lambda: None):
        if not copy.exists():
            with atomic_replace(copy) as temporary:
                _copy_rows(files, temporary)
    return Dataset.from_file(str(copy))


def _copy_rows(files: Sequence[Path], copy: Path) -> None:
    """Write the rows of Parquet files to one Arrow file."""
    import pyarrow as pa

    schema = row_features().arrow_schema
    try:
        with pa.OSFile(str(copy), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for path in files:
                for batch in iter_batches(path, schema.names, _ROWS_AT_ONCE):
                    rows = pa.Table.from_batches([batch]).select(schema.names)
                    writer.write_table(rows.cast(schema))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _unreadable(files, error) from error


def _unreadable(files: Sequence[Path], error: BaseException) -> ValueError:
    names, reason = ", ".join(path.name for path in files), " ".join(str(error).split())
    for path in files:
        with suppress(OSError), path.open("rb") as file:
            if file.read(len(LFS_MARK)) == LFS_MARK:
                return ValueError(f"{path} is {LFS_POINTER.what}; {LFS_POINTER.remedy}")
    return ValueError(
        f"{files[0].parent}: {names} cannot be read ({reason}); free disk space if the disk is "
        f"full, otherwise {_REBUILD}"
    )


def _only(ref: str, column: str, values: Sequence[Any]) -> Any:
    """Return the single value of a column; raise ValueError if there are several."""
    distinct = sorted(set(values), key=str)
    if len(distinct) != 1 or distinct[0] == "":
        raise ValueError(
            f"{ref}: {column} is {', '.join(map(str, distinct))} within one dataset; prepare a "
            "separate dataset for each"
        )
    return distinct[0]


def _labels(ref: str, values: Sequence[int | None]) -> np.ndarray:
    """Return the class ids (N,), int64, after validation."""
    if unknown := set(values) - set(range(UNLABELED, NUM_CLASSES)):
        raise ValueError(
            f"{ref}: labels {', '.join(map(str, unknown))} are outside -1..{NUM_CLASSES - 1}; "
            f"{_REBUILD}"
        )
    return np.array(values, dtype=np.int64)


def _scale(ref: str, values: Sequence[float | None]) -> float | None:
    """Return the scale in um per pixel, or None if the dataset has none."""
    scale: float | None = _only(ref, "um_per_px", values)
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"{ref}: um_per_px is {scale}; it must be a positive number; {_REBUILD}")
    return scale


def _require_crop(ref: str, dataset: "datasets.Dataset", um_per_px: float) -> None:
    """Raise ValueError if the first image does not show 25 um at the stated scale."""
    data = dataset.with_format("arrow")[:1]["image"][0]["bytes"].as_py()
    try:
        size = image_size(data, ref)
    except ImageFault:
        return  # damaged; decoding reports it
    side = crop_side(um_per_px)
    if size != (side, side):
        raise ValueError(
            f"{ref}: its crops are {size[0]}x{size[1]} px, and {CROP_UM:g} um are {side} px at the "
            f"um_per_px of {um_per_px:.6g} that its rows state; one of the two is wrong: {_REBUILD}"
        )
