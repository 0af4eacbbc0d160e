"""A field of view, or two cells that touch, is never taken for one cell."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_wbc.data.nucleus import count_nuclei
from hf_wbc.inference.cell_prediction import image_warnings, is_field
from hf_wbc.inference.predictor import crop_frames

FIELDS = Path(__file__).resolve().parents[3] / "shared" / "data" / "bccd_fields" / "JPEGImages"


def cells(*places: tuple[float, float], side: int = 360, diameter: float = 80) -> np.ndarray:
    """Draw a nucleus at each place (x, y)."""
    pixels = np.full((side, side, 3), (235, 220, 225), np.float64)
    y, x = np.mgrid[:side, :side]
    for cx, cy in places:
        pixels[np.hypot(x - cx, y - cy) < diameter / 2] = (110, 60, 140)
    noise = np.random.default_rng(0).normal(0, 3, pixels.shape)
    return (pixels + noise).clip(0, 255).astype(np.uint8)


def warnings_of(pixels: np.ndarray, um_per_px: float = 0.1) -> tuple[str, ...]:
    (frame,) = crop_frames([pixels], um_per_px)
    return image_warnings(pixels, frame, None)


def test_single_cell_is_not_a_field() -> None:
    assert not is_field(warnings_of(cells((180, 180))))
    lobes = cells((150, 180), (215, 180), (180, 215), diameter=45)
    assert count_nuclei(lobes, 0.1) <= 1 and not is_field(warnings_of(lobes))


def test_neighboring_cell_is_reported_but_harmless() -> None:
    found = warnings_of(cells((120, 180), (300, 60), side=400))
    assert not is_field(found) and any("another cell" in each for each in found)


@pytest.mark.parametrize(
    "pixels",
    [
        cells((120, 180), (240, 180)),
        cells((90, 90), (270, 90), (180, 270)),
        cells((180, 180), side=480),
    ],
    ids=["two touching", "three", "too large"],
)
def test_several_cells_or_oversized_image_is_a_field(pixels: np.ndarray) -> None:
    assert is_field(warnings_of(pixels))


def test_size_alone_makes_a_field_without_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("hf_wbc.inference.cell_prediction.count_nuclei")
    (warning,) = [w for w in warnings_of(cells((180, 180), side=480)) if is_field([w])]
    assert "48 x 48 um" in warning and "nucle" not in warning


def test_real_field_is_not_a_single_cell() -> None:
    if not FIELDS.is_dir():
        pytest.skip(f"{FIELDS} is absent")
    pixels = np.asarray(Image.open(sorted(FIELDS.glob("*.jpg"))[0]).convert("RGB"))
    assert is_field(warnings_of(pixels, 0.078))
