"""The crop shows the same 25 um for every source."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_wbc.data.crop import crop_side, crop_um


@pytest.mark.parametrize(
    ("px_per_um", "height", "width", "side"),
    [(10, 363, 360, 250), (13.8, 400, 400, 345), (11.52, 288, 288, 288)],
)
def test_source_scales_give_crops_of_250_345_and_288_px(
    px_per_um: float, height: int, width: int, side: int
) -> None:
    frame = np.zeros((height, width, 3), np.uint8)
    assert crop_um(frame, 1 / px_per_um).shape == (side, side, 3)


@given(st.integers(1, 30), st.integers(0, 9), st.integers(0, 9))
def test_crop_is_centered(side: int, extra_h: int, extra_w: int) -> None:
    height, width = side + extra_h, side + extra_w
    y, x = np.mgrid[:height, :width]
    frame = np.stack([y, x, y + x], -1).astype(np.uint8)
    crop = crop_um(frame, 1.0, um=side)
    above, left = int(crop[0, 0, 0]), int(crop[0, 0, 1])
    below, right = height - side - above, width - side - left
    assert 0 <= below - above <= 1 and 0 <= right - left <= 1
    np.testing.assert_array_equal(crop, frame[above : above + side, left : left + side])
    assert crop.flags.c_contiguous


@pytest.mark.parametrize("shape", [(249, 400, 3), (400, 249, 3)])
def test_frame_smaller_than_crop_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"smaller than 25.0 um.*250 px at 0\.1 um per pixel"):
        crop_um(np.zeros(shape, np.uint8), 0.1)


@pytest.mark.parametrize("um_per_px", [0.0, -0.1, float("nan"), float("inf")])
def test_impossible_scale_is_refused(um_per_px: float) -> None:
    with pytest.raises(ValueError, match=f"um_per_px is {um_per_px}"):
        crop_side(um_per_px)


def test_crop_of_less_than_a_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="less than one pixel"):
        crop_side(100.0)
