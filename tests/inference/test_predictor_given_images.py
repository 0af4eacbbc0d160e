"""An estimated scale is plausible for a smear microscope, or reported as unknown."""

import numpy as np
import pytest

from hf_wbc.data.scale import COARSEST_UM_PER_PX, DEFAULT_UM_PER_PX, FINEST_UM_PER_PX
from hf_wbc.inference.cell_prediction import NO_CELL, image_warnings
from hf_wbc.inference.predictor import crop_frames


def disc(diameter_px: float, side: int = 360) -> np.ndarray:
    """Draw a dark violet disc in the middle of a light image."""
    place = np.arange(side) - (side - 1) / 2
    pixels = np.full((side, side, 3), (235, 220, 225), np.uint8)
    pixels[place[:, None] ** 2 + place**2 < (diameter_px / 2) ** 2] = (110, 60, 140)
    return pixels


@pytest.mark.parametrize("diameter_px", [40, 95, 250])
def test_nucleus_gives_plausible_microscope_scale(diameter_px: int) -> None:
    (found,) = crop_frames([disc(diameter_px)], None)
    assert found.um_per_px == pytest.approx(9.5 / diameter_px, rel=0.1)
    assert found.estimate is not None and found.estimate.source == "nuclei"
    (words,) = (w for w in image_warnings(disc(diameter_px), found, None) if "The scale" in w)
    assert "estimated from the nuclei" in words


@pytest.mark.parametrize(
    ("pixels", "size"), [(disc(24, 240), "too small"), (disc(530, 600), "too large")]
)
def test_implausible_nucleus_gives_default_scale(pixels: np.ndarray, size: str) -> None:
    for scale in (None, [None]):
        (found,) = crop_frames([pixels], scale)
        assert found.nucleus is not None and found.estimate is not None
        assert found.estimate.source == "default"
        assert found.um_per_px == DEFAULT_UM_PER_PX
        said = " ".join(image_warnings(pixels, found, None))
        assert size in said and "is only assumed" in said


def test_scale_without_nucleus_is_reported_as_assumed() -> None:
    pixels = np.full((300, 300, 3), (235, 220, 225), np.uint8)
    pixels[:150] -= 40
    (found,) = crop_frames([pixels], None)
    assert found.nucleus is None and found.estimate is not None
    assert found.estimate.source == "default" and found.um_per_px == DEFAULT_UM_PER_PX
    said = image_warnings(pixels, found, None)
    assert NO_CELL in said and any("is only assumed" in words for words in said)


def test_outlying_nucleus_is_reported_and_ignored_for_scale() -> None:
    pixels = [disc(95), disc(95), disc(24, 240)]
    found = crop_frames(pixels, None)
    assert {each.um_per_px for each in found} == {found[0].um_per_px}
    assert found[0].um_per_px == pytest.approx(0.1, rel=0.1)
    assert all(each.estimate and each.estimate.source == "nuclei" for each in found)
    said = [" ".join(image_warnings(*each, None)) for each in zip(pixels, found, strict=True)]
    assert "too small" in said[2] and "too small" not in said[0]


def test_scale_bounds_include_known_laboratories() -> None:
    for um_per_px in (0.0345, 1 / 13.8, 1 / 11.52, 0.1, 0.25):
        assert 0.75 * um_per_px > FINEST_UM_PER_PX and 1.3 * um_per_px < COARSEST_UM_PER_PX
