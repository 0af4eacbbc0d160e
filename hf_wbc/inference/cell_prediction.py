"""The result for one cell, and warnings about the image it comes from.

Warnings are sentences that a hematologist understands: they say why a prediction may be less
reliable than its probability suggests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.crop import LARGEST_NUCLEUS_UM, SMALLEST_NUCLEUS_UM, Box, CropFrame, extract_crop
from hf_wbc.data.image_statistics import APPEARANCE_GEOMETRY, SourceAppearance, image_appearance
from hf_wbc.data.nucleus import count_nuclei
from hf_wbc.data.scale import ScaleEstimate
from hf_wbc.data.schema import CROP_UM
from hf_wbc.inference.attribute_reasons import Reason
from hf_wbc.taxonomy import CLASSES

__all__ = [
    "FOREIGN",
    "CellPrediction",
    "Neighbor",
    "by_lineage",
    "image_warnings",
    "is_field",
    "outside_warning",
]

EMPTY_LEVELS = 6.0
"""Standard deviation of green, in gray levels, below which an image counts as empty."""
BLURRED_PER_UM = 0.4
"""Sharpness, in cycles per um, below which a cell counts as blurred when the model does not record
the sharpness of its sources."""

EMPTY = "The image is empty: it has a single color."
NO_CELL = "No nucleus was found: does the image show a white blood cell?"
SMALL = "The image shows less than 25 um; the missing part was filled with the border color."
BLURRED = "The cell is blurred: refocus, or choose another cell."
FOREIGN = (
    "The stain or camera differs from all training laboratories: the prediction may be unreliable."
)
OUTSIDE = "The cell is unlike all training cells: it may belong to none of the eleven classes."
FIELD_UM = 42.0
"""Longest side in um of an image of one cell; the archives' frames are 25 to 36.3 um wide."""
FIELD = "This is not an image of one cell"
"""Start of the warning about a field of view or touching cells; such images are rejected."""
UNMEASURED = (
    "The model needs many images to measure a laboratory's stain or sharpness and got too few: "
    "the prediction is less reliable."
)


@dataclass(frozen=True, eq=False)
class CellPrediction:
    """A model's prediction for one image."""

    probabilities: NDArray[np.float64]
    """Probabilities of the eleven classes (11,), calibrated for images like the sources'."""
    label: int
    """The most probable class."""
    conformal_set: tuple[int, ...]
    """Classes in the conformal prediction set, most probable first; empty when no class fits, and
    for a model saved without sets (`Predictor.info["calibrated"]`)."""
    rejected: bool
    """Whether the cell is unlike all training cells, or recognized as an outlier."""
    lineage: Mapping[str, float]
    """Probability of each lineage, most probable first."""
    um_per_px: float
    """Scale of the image, in um per pixel."""
    scale_estimate: ScaleEstimate | None
    """The estimate that the scale is taken from; None if the scale was given."""
    box: Box
    """Left, top, right and bottom of the 25 um crop in pixels of the original image; it extends
    beyond the edges of a smaller image."""
    warnings: tuple[str, ...]
    """Sentences for a hematologist."""
    features: NDArray[np.float32]
    """Penultimate features (d,)."""
    logits: NDArray[np.float32]
    """Logits (11,); the probabilities are their softmax."""
    outlier: str = ""
    """The kind of outlier that the image shows, such as `platelet`, if it is recognized as one."""
    reasons: tuple[Reason, ...] = ()
    """Attributes that a person can check, if the model has a reliable head for them; none of
    rejected cells and of foreign stains."""

    @property
    def scale_guessed(self) -> bool:
        """Whether the scale was estimated from the cells."""
        return self.scale_estimate is not None


@dataclass(frozen=True)
class Neighbor:
    """A training cell that is close to a predicted cell in feature space."""

    thumbnail: bytes | None
    """A JPEG; None where the source's license does not allow redistribution."""
    label: int
    source: str
    image_id: str
    distance: float
    """1 - cosine similarity of the features: 0 for equal directions, 1 for orthogonal ones."""


def outside_warning(outlier: str) -> str:
    """Return the warning about a rejected image; `outlier` is its kind if it is known."""
    if not outlier:
        return OUTSIDE
    return f"It looks like a {outlier.replace('_', ' ')}, which is none of the eleven classes."


def by_lineage(probabilities: NDArray[np.float64]) -> dict[str, float]:
    """Sum probabilities (11,) over each lineage, most probable lineage first."""
    sums: dict[str, float] = {}
    for cell, p in zip(CLASSES, probabilities.tolist(), strict=True):
        sums[cell.lineage] = sums.get(cell.lineage, 0.0) + p
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def image_warnings(
    pixels: NDArray[np.uint8],
    frame: CropFrame,
    appearance: SourceAppearance | None,
    is_found: bool = False,
) -> tuple[str, ...]:
    """List what is wrong with an image.

    Args:
        pixels: The image (H, W, 3).
        frame: Where its 25 um crop lies.
        appearance: Stain and sharpness of the model's sources; None when unknown.
        is_found: Whether the finder cut it out of a field, so that neighbors may lie in it.
    """
    if float(pixels[::3, ::3, 1].std()) < EMPTY_LEVELS:
        return (EMPTY,)
    warnings = []
    if frame.nucleus is None:
        warnings.append(NO_CELL)
    else:
        warnings += _nucleus_warnings(frame, frame.nucleus.diameter_px * frame.um_per_px)
    if frame.estimate is not None:
        warnings += frame.estimate.sentences
    warnings += [] if is_found else _other_cells(pixels, frame)
    if not frame.inside(*pixels.shape[:2]):
        warnings.append(SMALL)
    measured = image_appearance(extract_crop(pixels, frame, APPEARANCE_GEOMETRY))
    if appearance is None:
        is_blurred, is_foreign = bool(measured[-1] < BLURRED_PER_UM), False
    else:
        is_blurred, is_foreign = (
            appearance.is_blurred(measured),
            appearance.is_out_of_distribution(measured),
        )
    return (*warnings, *([BLURRED] if is_blurred else []), *([FOREIGN] if is_foreign else []))


def is_field(warnings: Sequence[str]) -> bool:
    """Return whether an image's warnings say that it does not show one cell."""
    return any(each.startswith(FIELD) for each in warnings)


def _other_cells(pixels: NDArray[np.uint8], frame: CropFrame) -> list[str]:
    """Warn of a field of view, of touching cells, and of another cell in the image."""
    height, width = (length * frame.um_per_px for length in pixels.shape[:2])
    is_large = max(width, height) > FIELD_UM
    number = 0 if is_large else count_nuclei(pixels, frame.um_per_px)
    left, top, right, bottom = (max(edge, 0) for edge in frame.box)
    if is_large or number > 2:
        nuclei = "" if is_large else f", and {number} nuclei"
        return [
            f"{FIELD}: it shows {width:.0f} x {height:.0f} um at {frame.um_per_px:.3g} um per "
            f"pixel{nuclei}. Cut out each cell ({CROP_UM:g} um), or correct the scale."
        ]
    if number < 2:
        return []
    if count_nuclei(pixels[top:bottom, left:right], frame.um_per_px) > 1:
        return [f"{FIELD}: two nuclei lie within {CROP_UM:g} um. Do two cells touch?"]
    return ["The image shows another cell: the prediction is about the framed one only."]


def _nucleus_warnings(frame: CropFrame, diameter_um: float) -> list[str]:
    if SMALLEST_NUCLEUS_UM <= diameter_um <= LARGEST_NUCLEUS_UM:
        return []
    reason = (
        "too small for a white blood cell: check the scale, and that it is not a platelet or dirt."
        if diameter_um < SMALLEST_NUCLEUS_UM
        else "too large for a white blood cell: check the scale, and that it is not a clump or "
        "stain precipitate."
    )
    return [
        f"At {frame.um_per_px:.3g} um per pixel the nucleus is {diameter_um:.1f} um across, "
        f"{reason}"
    ]
