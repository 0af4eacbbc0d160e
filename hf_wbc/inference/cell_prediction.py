"""What is said of one cell: plain facts, for a page, a table or another program.

Why an answer may be worth less than it looks, in sentences that a hematologist understands."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.crop import LARGEST_NUCLEUS_UM, SMALLEST_NUCLEUS_UM, Box, CropFrame, extract_crop
from hf_wbc.data.image_statistics import APPEARANCE_GEOMETRY, SourceAppearance, image_appearance
from hf_wbc.taxonomy import CLASSES


@dataclass(frozen=True, eq=False)
class CellPrediction:
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


EMPTY_LEVELS = 6.0
"""Standard deviation of green, in grey levels, below which an image shows nothing at all."""
BLURRED_PER_UM = 0.4
"""Sharpness, in cycles per um, below which a cell is blurred for anybody's eyes; for models that do
not know how sharp their sources were."""

EMPTY = "The image is empty: it shows one colour and nothing else."
NO_CELL = "No nucleus was found: is there a white cell in the image?"
SMALL = "The image shows less than 25 um; what is missing was filled with its border's colour."
BLURRED = "The cell is blurred: focus again, or choose another."
FOREIGN = "The stain or camera is unlike that of every source: the answer may be far off."
OUTSIDE = "It is unlike the cells that the model was taught: perhaps none of the eleven classes."
UNMEASURED = (
    "The model wants to know a laboratory's stain or sharpness from many images, and got too few: "
    "the answer is worth less."
)


def image_warnings(
    pixels: NDArray[np.uint8], found: CropFrame, looks: SourceAppearance | None
) -> tuple[str, ...]:
    """Of an image (H, W, 3) and its frame; `looks` are those of the model's sources."""
    if float(pixels[::3, ::3, 1].std()) < EMPTY_LEVELS:
        return (EMPTY,)
    said = []
    if found.nucleus is None:
        said.append(NO_CELL)
    else:
        said += _scale_warnings(found, found.nucleus.diameter_px * found.um_per_px)
    if found.assumed:
        said.append(
            f"The scale is a guess, {found.um_per_px:.3g} um per pixel, by nothing in the image: "
            "there is no nucleus of a white cell's size. Give the microscope's scale."
        )
    elif found.guessed:
        said.append(
            f"The scale is a guess from the cell's size, {found.um_per_px:.3g} um per pixel: "
            "correct it if you know the microscope's."
        )
    if not found.inside(*pixels.shape[:2]):
        said.append(SMALL)
    look = image_appearance(extract_crop(pixels, found, APPEARANCE_GEOMETRY))
    if looks is None:
        is_blurred, is_foreign = bool(look[-1] < BLURRED_PER_UM), False
    else:
        is_blurred, is_foreign = looks.is_blurred(look), looks.is_out_of_distribution(look)
    return (*said, *([BLURRED] if is_blurred else []), *([FOREIGN] if is_foreign else []))


def _scale_warnings(found: CropFrame, diameter_um: float) -> list[str]:
    if SMALLEST_NUCLEUS_UM <= diameter_um <= LARGEST_NUCLEUS_UM:
        return []
    what = (
        "too small for a white cell: check the scale, and that it is no platelet and no dirt."
        if diameter_um < SMALLEST_NUCLEUS_UM
        else "too large for a white cell: check the scale, and that it is no clump and no stain."
    )
    return [
        f"At {found.um_per_px:.3g} um per pixel the nucleus is {diameter_um:.1f} um across, {what}"
    ]
