"""What a model's answers are held against: cells of its sources, small enough to travel with it.

`reference.parquet` lies in the model's folder or in its run's. Training cells are there with their
features, a thumbnail and their look, for neighbours and warnings; held-out validation cells with
the model's logits, for a count that knows what the model confuses. A run that has none still has
`predictions.parquet`, from which the second part is taken.
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
from hf_wbc.models import Classifier, PretrainedModel
from hf_wbc.records import RunFolder

FILE = "reference.parquet"
VERSION = 1
_MADE = "make it with `hf-wbc reference MODEL DATASETS`"


@dataclass(frozen=True, eq=False)
class Gallery:
    """N training cells."""

    features: NDArray[np.float32]
    """(N, d), of unit length."""
    labels: NDArray[np.int64]
    sources: tuple[str, ...]
    image_ids: tuple[str, ...]
    thumbnails: tuple[bytes | None, ...]
    looks: SourceAppearance


@dataclass(frozen=True, eq=False)
class ReferenceSet:
    """What is known of a model's sources; each part may be missing."""

    gallery: Gallery | None = None
    held_out: HeldOut | None = None
    facts: dict[str, Any] | None = None
    """Of the file: how many of what, and the measured cost of bf16 where it was measured."""


def read_reference_set(model: str, loaded: PretrainedModel) -> ReferenceSet:
    """Of a run's model folder or a Hub model `org/name[@revision]`; empty where it has none.

    ValueError for a damaged file, one of other weights, and one of another version.
    """
    path = _find(model, loaded)
    if path is not None:
        return _read(path, loaded)
    run = RunFolder(Path(model).parent)
    if Path(model).is_dir() and run.finished and run.predictions.is_file():
        return ReferenceSet(held_out=_of_run(run))
    return ReferenceSet()


def reference_set_path(model: Path) -> Path:
    """Where the reference of a model's folder is written: beside the rest of its run, or in it."""
    return (model.parent if RunFolder(model.parent).finished else model) / FILE


def head_digest(classifier: Classifier) -> str:
    """SHA-256 of the head's weights, by which a reference knows its model."""
    head = classifier.head
    numbers = (head.weight.detach().cpu().numpy(), head.bias.detach().cpu().numpy())
    return hashlib.sha256(b"".join(each.tobytes() for each in numbers)).hexdigest()


def _find(model: str, loaded: PretrainedModel) -> Path | None:
    folder = Path(model)
    if folder.is_dir():
        places = (folder / FILE, reference_set_path(folder))
        return next((path for path in places if path.is_file()), None)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    repo = model.partition("@")[0]
    try:
        return Path(hf_hub_download(repo, FILE, revision=loaded.revision))
    except EntryNotFoundError:  # also where the Hub is out of reach and the cache has no such file
        return None


def _read(path: Path, loaded: PretrainedModel) -> ReferenceSet:
    try:
        table = pq.read_table(path)
        facts: dict[str, Any] = json.loads(table.schema.metadata[b"hf_wbc"])
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it, or {_MADE}") from error
    if facts.get("version") != VERSION:
        raise ValueError(f"{path} is of version {facts.get('version')!r}; {_MADE} anew")
    if facts["head_sha256"] != head_digest(loaded.classifier):
        raise ValueError(f"{path} is of other weights than the model's; {_MADE} anew")
    rows = {split: table.filter(pa.compute.equal(table["split"], split)) for split in _SPLITS}
    return ReferenceSet(_gallery(rows["train"]), _held_out(rows["validation"]), facts)


_SPLITS = ("train", "validation")


def _gallery(table: pa.Table) -> Gallery | None:
    if not len(table):
        return None
    sources = table["source"].to_pylist()
    looks = np.array(table["look"].to_pylist(), np.float64)
    return Gallery(
        features=unit_rows(np.array(table["features"].to_pylist(), np.float32)),
        labels=table["label"].to_numpy(),
        sources=tuple(sources),
        image_ids=tuple(table["image_id"].to_pylist()),
        thumbnails=tuple(table["thumbnail"].to_pylist()),
        looks=measure_source_appearance(looks, np.array(sources)),
    )


def _held_out(table: pa.Table) -> HeldOut | None:
    if not len(table):
        return None
    return HeldOut(np.array(table["logits"].to_pylist(), np.float64), table["label"].to_numpy())


def _of_run(run: RunFolder) -> HeldOut | None:
    """Validation images of a run's sources, as its record and predictions have them."""
    record = run.read_record()
    names = [facts["name"] for facts in record["sources"]]
    columns = ["domain", "split", "label", "logits"]
    table = pq.read_table(
        run.predictions,
        columns=columns,
        filters=[("domain", "in", names), ("split", "==", "validation")],
    )
    return _held_out(table)
