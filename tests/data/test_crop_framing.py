"""The 25 um square is central, as in training, or follows an off-center cell."""

import numpy as np
import pytest

from hf_wbc.data.crop import (
    Geometry,
    crop_and_resize,
    crop_um,
    extract_crop,
    locate_crop,
)
from hf_wbc.data.nucleus import find_nucleus

GEOMETRY = Geometry(48, 3)
GROUND, RED_CELL, NUCLEUS = (240, 225, 215), (225, 170, 165), (110, 60, 140)


def field(
    center: tuple[float, float] | None,
    diameter_px: float = 90,
    shape: tuple[int, int] = (360, 400),
    ground: tuple[int, int, int] = GROUND,
) -> np.ndarray:
    """Draw red cells with at most one nucleus, centered at (x, y)."""
    rng = np.random.default_rng(0)
    pixels = np.full((*shape, 3), ground, np.float64)
    y, x = np.mgrid[: shape[0], : shape[1]]
    for _ in range(6):
        at = rng.uniform(0, shape[1]), rng.uniform(0, shape[0])
        pixels[(x - at[0]) ** 2 + (y - at[1]) ** 2 < 38**2] = np.array(RED_CELL) * (
            np.array(ground) / GROUND
        )
    if center:
        inside = (x - center[0]) ** 2 + (y - center[1]) ** 2 < (diameter_px / 2) ** 2
        pixels[inside] = np.array(NUCLEUS) * (np.array(ground) / GROUND)
    return (pixels + rng.normal(0, 3, pixels.shape)).clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("ground", [GROUND, (255, 225, 120), (170, 200, 250)])
def test_nucleus_is_found_on_any_background(ground: tuple[int, int, int]) -> None:
    found = find_nucleus(field((230, 150), 90, ground=ground))
    assert found is not None
    assert found.x == pytest.approx(230, abs=4) and found.y == pytest.approx(150, abs=4)
    assert found.diameter_px == pytest.approx(90, rel=0.1)


def test_segments_of_one_nucleus_are_joined() -> None:
    pixels, other = field((170, 180), 60), field((232, 180), 60)
    both = np.minimum(pixels, other)
    found = find_nucleus(both)
    assert found is not None and found.x == pytest.approx(201, abs=6)
    assert found.diameter_px == pytest.approx(60 * 2**0.5, rel=0.15)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((200, 200, 3), 255, np.uint8),
        np.zeros((200, 200, 3), np.uint8),
        np.full((1, 1, 3), 128, np.uint8),
        np.random.default_rng(0).integers(225, 240, (200, 300, 3), np.uint8),
        field(None),
    ],
    ids=["white", "black", "one pixel", "noise", "red cells"],
)
def test_find_nucleus_returns_none_without_nucleus(pixels: np.ndarray) -> None:
    assert find_nucleus(pixels) is None


def test_central_cell_gets_training_crop_bit_for_bit() -> None:
    pixels = field((210, 170), 90)
    found = locate_crop(pixels, find_nucleus(pixels), 0.1)
    np.testing.assert_array_equal(
        extract_crop(pixels, found, GEOMETRY), crop_and_resize(pixels, 0.1, GEOMETRY)
    )
    left, top, right, bottom = found.box
    np.testing.assert_array_equal(pixels[top:bottom, left:right], crop_um(pixels, 0.1))


def test_off_center_cell_is_centered() -> None:
    pixels = field((560, 420), 90, (800, 1000))
    found = locate_crop(pixels, find_nucleus(pixels), 0.1)
    left, top, right, bottom = found.box
    assert (right - left, bottom - top) == (250, 250)
    assert (left + right) / 2 == pytest.approx(560, abs=61)
    far = field((900, 60), 90, (800, 1000))
    box = locate_crop(far, find_nucleus(far), 0.1).box
    assert box[0] <= 900 - 45 and box[2] <= 1000 and box[1] == 0


def test_crop_beyond_image_is_filled_with_border_color() -> None:
    pixels = field((100, 100), 90, (200, 200))
    found = locate_crop(pixels, find_nucleus(pixels), 0.1)
    assert not found.inside(200, 200) and found.box == (-25, -25, 225, 225)
    seen = extract_crop(pixels, found, Geometry(250, 3))
    np.testing.assert_array_equal(seen[25:225, 25:225], pixels)
    assert np.abs(seen[:20].astype(int) - np.array(GROUND)).max() < 6


@pytest.mark.parametrize("um_per_px", [0.0, -1.0, float("nan"), float("inf"), 10.0])
def test_impossible_scale_is_refused(um_per_px: float) -> None:
    with pytest.raises(ValueError, match=r"um per pixel|um_per_px|less than one pixel"):
        locate_crop(field(None), None, um_per_px)
