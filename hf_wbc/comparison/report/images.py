"""Images of the report: scored images, thumbnails and feature maps.

Thumbnails require the dataset that the record names. A folder is searched for at the recorded path,
relative to the working directory and to each parent of the run folder; a Hub dataset only in the
cache. Nothing is downloaded. The images must be those that the run used.

Feature maps show whether cells of the test images cluster by class or by laboratory. Large sets are
subsampled; all runs that were scored on the same images share the sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hf_wbc.audit.embedding import (
    DomainMixing,
    EmbeddingMap,
    balanced_sample,
    domain_mixing,
    embed,
)
from hf_wbc.audit.representation import RepresentationScores, representation_scores
from hf_wbc.comparison.collect import Run
from hf_wbc.comparison.laboratory_share import read_run_features
from hf_wbc.data.dataset import DomainSplit, load_split
from hf_wbc.data.stated_pixels import decode_row
from hf_wbc.evaluation.metrics import merged_labels
from hf_wbc.plots.html import data_uri
from hf_wbc.taxonomy import NAMES, NUM_CLASSES, UNLABELED, class_id

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
COLUMNS = ("domain", "split", "image_id", "label", "predicted", *(f"p_{name}" for name in NAMES))


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """N labeled images of one domain and split; class ids are those after merging."""

    image_ids: list[str]
    labels: Ids
    """Class ids (N,)."""
    predicted: Ids
    """Predicted class ids (N,)."""
    probabilities: Floats
    """Probabilities (N, 11); 0 for a class that is merged into another."""

    @property
    def confidence(self) -> Floats:
        """Probability (N,) of the predicted class."""
        found: Floats = self.probabilities[np.arange(len(self.labels)), self.predicted]
        return found

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each prediction (N,) is correct."""
        found: NDArray[np.bool_] = self.labels == self.predicted
        return found


def read_scored(
    run: Run,
    domain: str,
    split: str = "test",
    merge: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
) -> ScoredImages:
    """Read the labeled images of a split, with classes merged and selected as for scoring.

    Args:
        run: Run whose predictions are read.
        domain: Name of the domain.
        split: Name of the split.
        merge: Classes to score as one, as FROM=INTO pairs.
        classes: Names of the scored classes; empty means all.

    Raises:
        ValueError: If the predictions are missing or damaged.
    """
    table = run.predictions(COLUMNS)
    table = table.filter(
        pc.and_(pc.equal(table["domain"], domain), pc.equal(table["split"], split))
    )
    into = merged_labels(merge)
    true = _ids(table, "label")
    true = np.where(true == UNLABELED, UNLABELED, into[true])
    kept = true != UNLABELED
    if classes:
        kept &= np.isin(true, [class_id(name) for name in classes])
    raw = np.stack([table[f"p_{name}"].to_numpy() for name in NAMES], 1)
    summed = np.zeros((len(table), NUM_CLASSES))
    np.add.at(summed.T, into, raw.T)
    return ScoredImages(
        image_ids=[str(name) for name in pc.filter(table["image_id"], pa.array(kept)).to_pylist()],
        labels=true[kept],
        predicted=into[_ids(table, "predicted")][kept],
        probabilities=summed[kept],
    )


def _ids(table: pa.Table, name: str) -> Ids:
    ids: Ids = table[name].to_numpy().astype(np.int64)
    return ids


SIDE_PX = 192
"""Side of a thumbnail in pixels; shown at half size for high-density screens."""


class Thumbnails:
    """Thumbnails of the images that a run was scored on; caches the datasets that it has opened."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, str], DomainSplit | str] = {}

    def of(
        self, run: Run, domain: str, split: str, image_ids: Sequence[str]
    ) -> tuple[dict[str, str], str]:
        """Return data URIs by image id, and the reason if there are none, or an empty string."""
        facts = _facts(run.record, domain)
        key = (facts["name"], facts[split])
        if key not in self._opened:
            self._opened[key] = _open(run, facts, split)
        opened = self._opened[key]
        if isinstance(opened, str):
            return {}, opened
        rows = {name: row for row, name in enumerate(opened.image_ids)}
        return {name: _thumbnail(opened, rows[name]) for name in image_ids if name in rows}, ""


def _facts(record: Mapping[str, Any], domain: str) -> Mapping[str, Any]:
    """Return the recorded information about the data of a domain."""
    for role in ("sources", "target", "held_out"):
        for facts in record[role]:
            if facts["name"] == domain:
                found: Mapping[str, Any] = facts
                return found
    raise AssertionError(f"{domain} is scored, but missing from the domains of its record")


def _open(run: Run, facts: Mapping[str, Any], split: str) -> DomainSplit | str:
    """Return the split of the domain, or the reason why it cannot be shown."""
    ref, place = str(facts["ref"]), _locate(run, facts)
    if place is None:
        return f"{ref} is not available here, so its images cannot be shown"
    try:
        domain = load_split(str(place), split)
    except ValueError as error:
        return f"images cannot be shown: {error}"
    if domain.fingerprint != facts[split]:
        return f"images cannot be shown: {ref} contains other images than the runs were scored on"
    return domain


def _locate(run: Run, facts: Mapping[str, Any]) -> Path | None:
    """Return the folder that contains the data; None if it is not on this machine."""
    ref = str(facts["ref"])
    if facts["revision"] is not None:
        return _cached(ref, facts["revision"])
    for start in (Path(), *run.path.resolve().parents):
        if (start / ref).is_dir():
            return start / ref
    return None


def _cached(ref: str, revision: str) -> Path | None:
    """Return the folder of a Hub dataset in the cache; None if it is not cached."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            ref.partition("@")[0], repo_type="dataset", revision=revision, local_files_only=True
        )
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError):
        return None
    return Path(str(found))


def _thumbnail(domain: DomainSplit, row: int) -> str:
    """Return the data URI of a thumbnail without metadata."""
    from PIL import Image

    (facts,) = domain.dataset.with_format("arrow")[row].to_pylist()
    image = Image.fromarray(decode_row(facts, domain.image_ids[row]))
    image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    return data_uri(image, "WEBP", quality=78, method=6)


MAX_CELLS = 4000


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """Two-dimensional map of the features of N cells of a run."""

    map: EmbeddingMap
    labels: NDArray[np.int64]
    """Class ids (N,); -1 is unlabeled."""
    domains: NDArray[np.int64]
    """Indices into `names` (N,)."""
    names: tuple[str, ...]
    num_of: int
    """Number of cells that the sample was drawn from."""
    classes: DomainMixing | None
    """Whether neighboring cells have the same class."""
    laboratories: DomainMixing | None
    """Whether neighboring cells are from the same laboratory."""
    scores: RepresentationScores | None
    """How much of the features is laboratory and how much is class, of the unmerged classes; None
    unless labeled cells of two laboratories share a class."""


def feature_map(run: Run, merge: tuple[str, ...] = ()) -> FeatureMap | None:
    """Map the test images of a run to the plane; None if there are too few.

    Raises:
        ValueError: If the features or predictions are missing, damaged, or of different images.
    """
    cells = read_run_features(run)
    kept = balanced_sample(cells.domains, MAX_CELLS)
    found = embed(cells.features[kept])
    if found is None:
        return None
    into, labels, domains = merged_labels(merge), cells.labels[kept], cells.domains[kept]
    labels = np.where(labels == UNLABELED, UNLABELED, into[labels])
    return FeatureMap(
        map=found,
        labels=labels,
        domains=domains,
        names=cells.names,
        num_of=len(cells.domains),
        classes=domain_mixing(found.neighbors, labels),
        laboratories=domain_mixing(found.neighbors, domains),
        scores=representation_scores(cells.features, cells.labels, cells.domains, cells.groups),
    )
