"""Maps of the test images' features of one run: do cells lie by class, or by laboratory?

Of many cells a fixed sample is drawn, the same for every run that was scored on the same images.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from hf_wbc.audit.embedding import Map, Mixing, embed, mixing
from hf_wbc.evaluation.metrics import merged
from hf_wbc.study.collect import Run
from hf_wbc.taxonomy import UNLABELLED

MAX_CELLS = 4000
_KEYS = ["domain", "split", "image_id"]


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """N cells of a run in the plane."""

    map: Map
    labels: NDArray[np.int64]
    """(N,); -1 is unlabelled."""
    domains: NDArray[np.int64]
    """(N,), indices of `names`."""
    names: tuple[str, ...]
    num_of: int
    """Cells that the sample was drawn from."""
    classes: Mixing | None
    """Whether near cells are of one class."""
    laboratories: Mixing | None
    """Whether near cells are of one laboratory."""


def feature_map(run: Run, merge: tuple[str, ...] = ()) -> FeatureMap | None:
    """The map of a run's test images; None where there are too few of them.

    ValueError when the run's features or predictions are missing, damaged, or of unlike images.
    """
    features, predictions = run.features(), run.predictions([*_KEYS, "label"])
    if any(features[key] != predictions[key] for key in _KEYS):
        raise ValueError(
            f"{run.name}: features.parquet and predictions.parquet are of other images; "
            "make the run again"
        )
    is_test = pc.equal(features["split"], "test")
    features, predictions = features.filter(is_test), predictions.filter(is_test)
    names = (*run.sources, *run.targets, *(d["name"] for d in run.record["held_out"]))
    domains = np.array([names.index(name) for name in features["domain"].to_pylist()], np.int64)
    kept = sample(domains, MAX_CELLS)
    column = features["features"].combine_chunks()
    rows = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)[kept]
    found = embed(rows.astype(np.float32))
    if found is None:
        return None
    into, labels = merged(merge), predictions["label"].to_numpy().astype(np.int64)[kept]
    labels = np.where(labels == UNLABELLED, UNLABELLED, into[labels])
    return FeatureMap(
        map=found,
        labels=labels,
        domains=domains[kept],
        names=names,
        num_of=len(domains),
        classes=mixing(found.neighbours, labels),
        laboratories=mixing(found.neighbours, domains[kept]),
    )


def sample(domains: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Rows (n,), at most `most`, in order: as many of each domain as there are, or like many.

    >>> sample(np.array([0, 0, 0, 0, 1]), 3).tolist()[-1]
    4
    """
    rng, kept, left = np.random.default_rng(0), [], most
    sizes = sorted((int((domains == d).sum()), int(d)) for d in np.unique(domains))
    for place, (size, domain) in enumerate(sizes):
        share = min(size, left // (len(sizes) - place))
        rows = np.flatnonzero(domains == domain)
        kept.append(np.sort(rng.permutation(rows)[:share]))
        left -= share
    found: NDArray[np.int64] = np.sort(np.concatenate(kept))
    return found
