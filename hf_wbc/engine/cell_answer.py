"""What is said of one cell: plain facts, for a page, a table or another program."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.crop import Box
from hf_wbc.taxonomy import CLASSES


@dataclass(frozen=True, eq=False)
class CellAnswer:
    """What a model says of one image."""

    probabilities: NDArray[np.float64]
    """Of the eleven classes (11,), calibrated for images like the sources'."""
    label: int
    """The likeliest class."""
    conformal: tuple[int, ...]
    """Classes that may be it, likeliest first; empty where none fits, and for a model that was
    saved without sets (`Predictor.card["calibrated"]`)."""
    rejected: bool
    """It is like none of the cells that the model was taught."""
    lineage: Mapping[str, float]
    """Probability of each lineage, the likeliest first."""
    um_per_px: float
    scale_guessed: bool
    box: Box
    """Left, top, right, bottom of the 25 um square, in pixels of the image given; it may go beyond
    the edges of an image that is smaller."""
    warnings: tuple[str, ...]
    """Sentences for a hematologist."""
    features: NDArray[np.float32]
    """Penultimate features (d,)."""
    logits: NDArray[np.float32]
    """(11,), of which the probabilities are the softmax."""


@dataclass(frozen=True)
class Neighbour:
    """A training cell that the model takes for alike."""

    thumbnail: bytes | None
    """A JPEG; None where the source's images may not be shown."""
    label: int
    source: str
    image_id: str
    distance: float
    """1 - cosine of the features: 0 is the same, 1 has nothing in common."""


def by_lineage(probabilities: NDArray[np.float64]) -> dict[str, float]:
    """Probabilities (11,) summed over each lineage, the likeliest first."""
    sums: dict[str, float] = {}
    for cell, p in zip(CLASSES, probabilities.tolist(), strict=True):
        sums[cell.lineage] = sums.get(cell.lineage, 0.0) + p
    return dict(sorted(sums.items(), key=lambda item: -item[1]))
