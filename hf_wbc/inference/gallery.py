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
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hf_wbc.data.image_statistics import SourceAppearance, measure_source_appearance
from hf_wbc.evaluation.slide import HeldOut
from hf_wbc.evaluation.validators import unit_rows
from hf_wbc.inference.outliers import OutlierKind
from hf_wbc.models import Classifier, PretrainedModel
from hf_wbc.records import RunFolder

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
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    repo = model.partition("@")[0]
    try:
        return Path(hf_hub_download(repo, REFERENCE_FILE, revision=pretrained.revision))
    except EntryNotFoundError:  # also raised offline when the cache does not have the file
        return None


def _read(path: Path, pretrained: PretrainedModel) -> ReferenceSet:
    try:
        table = pq.read_table(path)
        metadata: dict[str, Any] = json.loads(table.schema.metadata[b"hf_wbc"])
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it, or rebuild it {_HOW}") from error
    if metadata.get("version") != VERSION:
        raise ValueError(f"{path} has version {metadata.get('version')!r}; rebuild it {_HOW}")
    if metadata["head_sha256"] != head_digest(pretrained.classifier):
        raise ValueError(f"{path} belongs to other weights than the model's; rebuild it {_HOW}")
    train, validation = (
        table.filter(pa.compute.equal(table["split"], split)) for split in ("train", "validation")
    )
    num_features = pretrained.classifier.num_features
    try:
        found = [OutlierKind.from_dict(each, num_features) for each in metadata.pop(OUTLIERS, [])]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error}); rebuild it {_HOW}") from error
    metadata["outliers"] = {kind.name: kind.recall for kind in found}
    return ReferenceSet(_gallery(train), _held_out(validation), metadata, tuple(found))


def _gallery(table: pa.Table) -> Gallery | None:
    if not len(table):
        return None
    sources = table["source"].to_pylist()
    appearance = np.array(table["look"].to_pylist(), np.float64)
    return Gallery(
        features=unit_rows(np.array(table["features"].to_pylist(), np.float32)),
        labels=table["label"].to_numpy(),
        sources=tuple(sources),
        image_ids=tuple(table["image_id"].to_pylist()),
        thumbnails=tuple(table["thumbnail"].to_pylist()),
        appearance=measure_source_appearance(appearance, np.array(sources)),
    )


def _held_out(table: pa.Table) -> HeldOut | None:
    if not len(table):
        return None
    return HeldOut(np.array(table["logits"].to_pylist(), np.float64), table["label"].to_numpy())


def _held_out_of_run(run: RunFolder) -> HeldOut | None:
    """Read the validation images of a run's sources from its record and predictions."""
    record = run.read_record()
    names = [source["name"] for source in record["sources"]]
    table = pq.read_table(
        run.predictions,
        columns=["domain", "split", "label", "logits"],
        filters=[("domain", "in", names), ("split", "==", "validation")],
    )
    return _held_out(table)
