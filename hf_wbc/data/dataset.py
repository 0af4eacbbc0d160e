"""A domain: one split of one prepared dataset, from a folder or from the Hub, checked and named.

The rows are read from the Parquet files themselves, never through the dataset's README: datasets
keeps a cache of a local folder that it does not renew when only the Parquet files change. The
cached Arrow copy lies under the fingerprint of the rows, so other rows are never mistaken for it.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_wbc.data.crop import crop_side
from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.data.image_io import ImageFault, image_size
from hf_wbc.data.schema import CONFIGS, CROP_UM, DEFAULT_CONFIG, SPLITS, row_features
from hf_wbc.taxonomy import NAMES, NUM_CLASSES, UNLABELED
from hf_wbc.text import did_you_mean

if TYPE_CHECKING:
    import datasets

_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>\S+))?")
_SHARD = re.compile(r"(?P<split>\w+)-(?P<number>\d{5})-of-(?P<total>\d{5})\.parquet")
_FACTS = ("image_id", "label", "group", "um_per_px", "pixel_sha256")
_REBUILD = "build it again with `hf-wbc prepare`"


@dataclass(frozen=True, eq=False)
class DomainSplit:
    """N rows of one domain."""

    ref: str
    """As it was asked for: a folder, or `org/name[@revision]` on the Hub."""
    name: str
    """The `domain` column, `acevedo_20`."""
    split: str
    dataset: "datasets.Dataset" = field(repr=False)
    """The rows in the schema of `hf_wbc.data.schema`."""
    labels: np.ndarray = field(repr=False)
    """Class ids (N,), int64; -1 is unlabelled."""
    image_ids: list[str] = field(repr=False)
    """The archive's own file name of each row."""
    groups: np.ndarray | None = field(repr=False)
    """Patient, slide or session of each row (N,); None where that of any is unknown."""
    um_per_px: float | None
    """Scale; None where the cell fills the frame and the scale is unknown."""
    fingerprint: str
    """SHA-256 of what the rows say of themselves: their content, wherever they lie."""
    revision: str | None
    """The commit on the Hub; None for a folder."""

    def __len__(self) -> int:
        return len(self.labels)


def load_split(ref: str, split: str, config: str = DEFAULT_CONFIG) -> DomainSplit:
    """One split of a prepared folder or of a Hub dataset `org/name[@revision]`.

    ValueError when it is not there, not of our schema, of other classes or another order of them,
    incomplete, of two domains or two scales, or cropped to another scale than its rows state.
    """
    (domain,) = load_splits(ref, [split], config)
    return domain


def load_splits(
    ref: str, splits: Sequence[str] = SPLITS, config: str = DEFAULT_CONFIG
) -> list[DomainSplit]:
    """Several splits, all of the same commit where they are on the Hub; as `load_domain`."""
    for what, values, known in (("split", splits, SPLITS), ("config", [config], CONFIGS)):
        for value in values:
            if value not in known:
                raise ValueError(f"unknown {what} {value!r}; {did_you_mean(value, known)}")
    folder, revision = _locate(ref, splits, config)
    return [_load(ref, folder / config, split, revision) for split in splits]


def _load(ref: str, folder: Path, split: str, revision: str | None) -> DomainSplit:
    files = parquet_shards(ref, folder, split)
    check_schema(ref, files)
    facts = _read_facts(files)
    fingerprint, um_per_px = _fingerprint(facts), _scale(ref, facts["um_per_px"])
    dataset = _read(files, fingerprint)
    if folder.name == DEFAULT_CONFIG and um_per_px is not None:
        _require_crop(ref, dataset, um_per_px)
    return DomainSplit(
        ref=ref,
        name=_only(ref, "domain", facts["domain"]),
        split=split,
        dataset=dataset,
        labels=_labels(ref, facts["label"]),
        image_ids=facts["image_id"],
        groups=None if None in facts["group"] else np.array(facts["group"], dtype=np.str_),
        um_per_px=um_per_px,
        fingerprint=fingerprint,
        revision=revision,
    )


def _locate(ref: str, splits: Sequence[str], config: str) -> tuple[Path, str | None]:
    """The folder that holds the files, and the commit when it came from the Hub."""
    if Path(ref).is_dir():
        return Path(ref), None
    match = _HUB.fullmatch(ref)
    if not match:
        raise ValueError(
            f"{ref}: no such folder; give a folder that `hf-wbc prepare` wrote, "
            "or a Hub dataset as org/name or org/name@revision"
        )
    patterns = [f"{config}/{split}-*.parquet" for split in splits]
    try:
        snapshot = fetch_snapshot(match["repo"], "dataset", match["revision"], patterns)
    except ValueError as error:
        raise ValueError(f"{ref}: no such folder, and the Hub's dataset: {error}") from error
    return snapshot, snapshot.name


def parquet_shards(ref: str, folder: Path, split: str) -> list[Path]:
    """The Parquet files of a split, in order; ValueError when one of them is missing."""
    found = sorted(folder.glob(f"{split}-*.parquet"))
    names = [_SHARD.fullmatch(path.name) for path in found]
    numbers = [int(name["number"]) for name in names if name]
    totals = {int(name["total"]) for name in names if name}
    if not found or None in names or totals != {len(found)} or numbers != [*range(len(found))]:
        listing = ", ".join(path.name for path in found) or "nothing"
        raise ValueError(
            f"{ref}: {folder.name}/ should hold {split}-00000-of-0000N.parquet and so on, "
            f"and holds {listing}; {_REBUILD}"
        )
    return found


def check_schema(ref: str, files: Sequence[Path]) -> None:
    """ValueError for a missing column, another type, or other class names."""
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
                    f"{ref}: {path.name} has no column {name!r}, so it is not a dataset of this "
                    f"project; {_REBUILD}"
                )
            label = found[name]
            if isinstance(label, ClassLabel) and tuple(label.names) != NAMES:
                raise ValueError(
                    f"{ref}: its classes are {', '.join(label.names)}; expected are "
                    f"{', '.join(NAMES)}, in this order; {_REBUILD}"
                )
            if type(label) is not type(wanted) or label.dtype != wanted.dtype:
                raise ValueError(f"{ref}: column {name!r} is {label}, not {wanted}; {_REBUILD}")


def _read_facts(files: Sequence[Path]) -> dict[str, list[Any]]:
    """Every column but the images."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        tables = [pq.read_table(path, columns=[*_FACTS, "domain"]) for path in files]
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(files, error) from error
    facts: dict[str, list[Any]] = pa.concat_tables(tables).to_pydict()
    if not facts["label"]:
        raise ValueError(f"{files[0].parent}: no rows in {files[0].name}; {_REBUILD}")
    return facts


def _fingerprint(facts: Mapping[str, list[Any]]) -> str:
    """SHA-256 over the rows' facts as JSON, one row a line."""
    digest = hashlib.sha256()
    for row in zip(*(facts[name] for name in _FACTS), strict=True):
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()


def _read(files: Sequence[Path], fingerprint: str) -> "datasets.Dataset":
    """The rows, memory-mapped from an Arrow copy that lies under their fingerprint."""
    from datasets import Dataset, config
    from datasets.exceptions import DatasetGenerationError
    from datasets.utils import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    features = row_features()
    is_shown = not are_progress_bars_disabled()
    disable_progress_bars()  # it would call every split "train", for a fraction of a second
    try:
        return Dataset.from_parquet(
            [str(path) for path in files],
            features=features,
            columns=list(features),
            cache_dir=str(Path(config.HF_DATASETS_CACHE) / "hf_wbc" / "rows" / fingerprint),
        )
    except DatasetGenerationError as error:
        raise _unreadable(files, error.__cause__ or error) from error
    finally:
        if is_shown:
            enable_progress_bars()


def _unreadable(files: Sequence[Path], error: BaseException) -> ValueError:
    names, reason = ", ".join(path.name for path in files), " ".join(str(error).split())
    return ValueError(
        f"{files[0].parent}: {names} cannot be read ({reason}); free the disk if it is full, "
        f"otherwise {_REBUILD}"
    )


def _only(ref: str, column: str, values: Sequence[Any]) -> Any:
    """The one value of a column; ValueError lists them when there are several."""
    distinct = sorted(set(values), key=str)
    if len(distinct) != 1 or distinct[0] == "":
        raise ValueError(
            f"{ref}: {column} is {', '.join(map(str, distinct))} in one dataset; "
            "prepare one dataset for each"
        )
    return distinct[0]


def _labels(ref: str, values: Sequence[int | None]) -> np.ndarray:
    """Class ids (N,), int64."""
    if unknown := set(values) - set(range(UNLABELED, NUM_CLASSES)):
        raise ValueError(
            f"{ref}: labels {', '.join(map(str, unknown))} are none of -1..{NUM_CLASSES - 1}; "
            f"{_REBUILD}"
        )
    return np.array(values, dtype=np.int64)


def _scale(ref: str, values: Sequence[float | None]) -> float | None:
    """um per pixel, or None for a dataset that knows none."""
    scale: float | None = _only(ref, "um_per_px", values)
    if scale is not None and not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"{ref}: um_per_px is {scale}; a scale is a positive number; {_REBUILD}")
    return scale


def _require_crop(ref: str, dataset: "datasets.Dataset", um_per_px: float) -> None:
    """ValueError when the first image does not show 25 um at the stated scale."""
    data = dataset.with_format("arrow")[:1]["image"][0]["bytes"].as_py()
    try:
        size = image_size(data, ref)
    except ImageFault:
        return  # damaged: whoever reads the pixels names it
    side = crop_side(um_per_px)
    if size != (side, side):
        raise ValueError(
            f"{ref}: its crops are {size[0]}x{size[1]} px, and {CROP_UM:g} um are {side} px at the "
            f"um_per_px of {um_per_px:.6g} that its rows state; one of the two is wrong: {_REBUILD}"
        )
