"""Read a model's reference set: cells of its sources, small enough to travel with the model.

`reference.parquet` lies in the model's folder or beside it in the run's folder. It holds training
cells with features, thumbnail and appearance, for neighbors and warnings, and validation cells with
the model's logits, which measure its confusion and so correct differential counts. Its metadata may
hold detectors of platelets and other outliers (`hf_wbc.inference.outliers`). For a run without that
file, the validation part is read from its `predictions.parquet`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.data.image_statistics import SourceAppearance, measure_source_appearance
from hf_wbc.data.parquet_tables import read_table
from hf_wbc.evaluation.slide import HeldOut
from hf_wbc.evaluation.validators import unit_rows
from hf_wbc.inference.outliers import OutlierKind
from hf_wbc.models import Classifier, PretrainedModel
from hf_wbc.records import RunFolder
from hf_wbc.taxonomy import NUM_CLASSES

__all__ = [
    "OUTLIERS",
    "REFERENCE_FILE",
    "VERSION",
    "Gallery",
    "ReferenceSet",
    "head_digest",
    "read_reference_set",
    "reference_set_path",
]

REFERENCE_FILE = "reference.parquet"
VERSION = 1
MAX_ROWS, MAX_BYTES = 1_000_000, 2**30
"""Largest reference set; 40 cells of each class and source with thumbnails take 3 MB."""
NUM_APPEARANCE = 7
OUTLIERS = "outlier_kinds"
"""Key of the detectors of `hf_wbc.inference.outliers` in the file's metadata."""
_HOW = "with `hf-wbc reference MODEL DATASETS`"


@dataclass(frozen=True, eq=False)
class Gallery:
    """N training cells."""

    features: NDArray[np.float32]
    """Features of unit length (N, d)."""
    labels: NDArray[np.int64]
    sources: tuple[str, ...]
    image_ids: tuple[str, ...]
    thumbnails: tuple[bytes | None, ...]
    """JPEGs; None where the source's license does not allow redistribution."""
    appearance: SourceAppearance


@dataclass(frozen=True, eq=False)
class ReferenceSet:
    """Reference cells of a model; each part may be missing."""

    gallery: Gallery | None = None
    """Training cells."""
    held_out: HeldOut | None = None
    """Validation cells."""
    metadata: dict[str, Any] | None = None
    """The file's metadata: version, digest of the head, number of cells."""
    outliers: tuple[OutlierKind, ...] = ()
    """Kinds of images outside the eleven classes that the model recognizes."""


def read_reference_set(model: str, pretrained: PretrainedModel) -> ReferenceSet:
    """Read the reference set of a run's model folder or a Hub model `org/name[@revision]`.

    Returns:
        The reference set, empty if the model has none.

    Raises:
        ValueError: If the file is damaged, or belongs to other weights or another version.
    """
    path = _find(model, pretrained)
    if path is not None:
        return _read(path, pretrained)
    run = RunFolder(Path(model).parent)
    if Path(model).is_dir() and run.finished and run.predictions.is_file():
        return ReferenceSet(held_out=_held_out_of_run(run))
    return ReferenceSet()


def reference_set_path(model: Path) -> Path:
    """Return where a model's reference set is written: in its run's folder, or in its own."""
    return (model.parent if RunFolder(model.parent).finished else model) / REFERENCE_FILE


def head_digest(classifier: Classifier) -> str:
    """Compute the SHA-256 of the head's weights, which ties a reference set to its model."""
    head = classifier.head
    arrays = (head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy())
    return hashlib.sha256(b"".join(each.tobytes() for each in arrays)).hexdigest()


def _find(model: str, pretrained: PretrainedModel) -> Path | None:
    folder = Path(model)
    if folder.is_dir():
        candidates = (folder / REFERENCE_FILE, reference_set_path(folder))
        return next((path for path in candidates if path.is_file()), None)
    repo = model.partition("@")[0]
    try:
        fetched = fetch_snapshot(repo, "model", pretrained.revision, [REFERENCE_FILE])
    except ValueError as error:
        raise ValueError(f"the reference set of {model}: {error}") from error
    path = fetched / REFERENCE_FILE
    return path if path.is_file() else None


def _read(path: Path, pretrained: PretrainedModel) -> ReferenceSet:
    num_features = pretrained.classifier.num_features
    try:
        table, metadata = _open(path)
        if (version := metadata.get("version")) != VERSION:
            raise ValueError(f"it has version {version!r}")
        if metadata.get("head_sha256") != head_digest(pretrained.classifier):
            raise ValueError("it belongs to other weights than the model's")
        train, validation = (
            table.filter(pc.equal(table["split"], each)) for each in ("train", "validation")
        )
        kinds = [OutlierKind.from_dict(each, num_features) for each in metadata.pop(OUTLIERS, [])]
        metadata["outliers"] = {kind.name: kind.recall for kind in kinds}
        gallery, held_out = _gallery(train, num_features), _held_out(validation)
    except (
        pa.ArrowException,
        AttributeError,
        LookupError,
        OverflowError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            f"{path} cannot be used: {error}; delete it, or rebuild it {_HOW}"
        ) from error
    return ReferenceSet(gallery, held_out, metadata, tuple(kinds))


_DAMAGE = (
    pa.ArrowException, AttributeError, LookupError, OSError, OverflowError, RecursionError,
    TypeError, ValueError,
)  # fmt: skip
"""What reading a file of another kind raises."""


def _open(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """Read the table and its metadata, unless it is far larger than a reference set."""
    with pq.ParquetFile(path) as file:
        facts = file.metadata
        groups = [facts.row_group(number) for number in range(facts.num_row_groups)]
        num_bytes = sum(each.total_byte_size for each in groups)
        if facts.num_rows > MAX_ROWS or num_bytes > MAX_BYTES:
            raise ValueError(f"it has {facts.num_rows:,} rows of {num_bytes:,} bytes, too many")
    table = read_table(path)
    metadata = json.loads((table.schema.metadata or {})[b"hf_wbc"])
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is no JSON object")
    return table, metadata


def _floats(column: pa.ChunkedArray, width: int, name: str, kind: Any = np.float32) -> Any:
    """Return a column of lists as an array (N, width)."""
    found = np.array(column.to_pylist(), kind)
    if found.shape != (len(column), width):
        raise ValueError(f"column {name} does not hold {width} numbers per cell")
    return found


def _labels(table: pa.Table) -> NDArray[np.int64]:
    labels = np.asarray(table["label"].to_pylist(), np.int64)
    if not ((labels >= 0) & (labels < NUM_CLASSES)).all():
        raise ValueError("column label does not hold class ids")
    return labels


def _gallery(table: pa.Table, num_features: int) -> Gallery | None:
    if not len(table):
        return None
    sources = list(map(str, table["source"].to_pylist()))
    features = _floats(table["features"], num_features, "features")
    if not np.isfinite(features).all():
        raise ValueError("column features holds infinite values")
    appearance = _floats(table["look"], NUM_APPEARANCE, "look", np.float64)
    return Gallery(
        features=unit_rows(features),
        labels=_labels(table),
        sources=tuple(sources),
        image_ids=tuple(map(str, table["image_id"].to_pylist())),
        thumbnails=tuple(table["thumbnail"].to_pylist()),
        appearance=measure_source_appearance(appearance, np.array(sources)),
    )


def _held_out(table: pa.Table) -> HeldOut | None:
    if not len(table):
        return None
    logits = _floats(table["logits"], NUM_CLASSES, "logits", np.float64)
    if not np.isfinite(logits).all():
        raise ValueError("column logits holds infinite values")
    return HeldOut(logits, _labels(table))


def _held_out_of_run(run: RunFolder) -> HeldOut | None:
    """Read the validation images of a run's sources from its record and predictions."""
    record = run.read_record()
    names = [source["name"] for source in record["sources"]]
    table = read_table(run.predictions, ("domain", "split", "label", "logits"))
    is_source = pc.is_in(table["domain"], pa.array(names, pa.string()))
    is_held_out = pc.and_(is_source, pc.equal(table["split"], "validation"))
    return _held_out(table.filter(is_held_out))
