"""What a run said of each scored image, in the classes of its sheet."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hf_wbc.evaluation.metrics import merged
from hf_wbc.study.collect import Run
from hf_wbc.taxonomy import NAMES, NUM_CLASSES, UNLABELLED, class_id

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
COLUMNS = ("domain", "split", "image_id", "label", "predicted", *(f"p_{name}" for name in NAMES))


@dataclass(frozen=True, eq=False)
class ScoredImages:
    """N labelled images of one domain and split; ids are those of merged classes."""

    image_ids: list[str]
    labels: Ids
    """(N,)."""
    predicted: Ids
    """(N,)."""
    probabilities: Floats
    """(N, 11); a class that is merged into another has none."""

    @property
    def confidence(self) -> Floats:
        """Probability (N,) of the predicted class."""
        found: Floats = self.probabilities[np.arange(len(self.labels)), self.predicted]
        return found

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the prediction is the label (N,)."""
        found: NDArray[np.bool_] = self.labels == self.predicted
        return found


def read_scored(
    run: Run,
    domain: str,
    split: str = "test",
    merge: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
) -> ScoredImages:
    """The labelled images of a domain's split, with the classes as they were scored.

    ValueError when the run's predictions are missing or damaged.
    """
    table = run.predictions(COLUMNS)
    table = table.filter(
        pc.and_(pc.equal(table["domain"], domain), pc.equal(table["split"], split))
    )
    into = merged(merge)
    true = _ids(table, "label")
    true = np.where(true == UNLABELLED, UNLABELLED, into[true])
    kept = true != UNLABELLED
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
