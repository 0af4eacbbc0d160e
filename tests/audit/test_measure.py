"""Measurements of a frame match its visible content."""

import hashlib

import numpy as np
import pytest
from PIL import Image, ImageFilter

from hf_wbc.audit.measure import NUM_BORDER, QUANTILES, measure


def _frame(border=(200, 150, 180), center=(90, 40, 130), side=100) -> np.ndarray:
    pixels = np.full((side, side, 3), border, np.uint8)
    pixels[20:-20, 20:-20] = center
    return pixels


def test_border_and_center_colors_are_measured_separately():
    found = measure(_frame(), 0.25)
    assert found.background.tolist() == [200, 150, 180]
    assert found.cell.tolist() == [90, 40, 130]
    assert found.size_px.tolist() == [100, 100]


def test_border_is_independent_of_the_cell():
    one, other = (measure(_frame(center=c), 0.25) for c in ((90, 40, 130), (250, 250, 0)))
    assert one.border.shape == (NUM_BORDER,)
    assert np.array_equal(one.border, other.border)
    assert not np.array_equal(one.small, other.small)


def test_border_quantiles_match_numpy():
    pixels = np.random.default_rng(0).integers(0, 256, (100, 120, 3)).astype(np.uint8)
    inner = np.zeros((100, 120), bool)
    inner[8:-8, 10:-10] = True
    expected = np.quantile(pixels[~inner], QUANTILES, axis=0, method="inverted_cdf").T.ravel()
    assert np.abs(measure(pixels, 0.25).border[: expected.size] - expected).max() <= 1


def test_blurred_frame_is_less_sharp_at_any_scale():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for side in (128, 256):
        image = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
        sharp, soft = (
            measure(np.asarray(frame), 25 / side).sharpness
            for frame in (image, image.filter(ImageFilter.GaussianBlur(side / 64)))
        )
        assert soft < 0.6 * sharp


def test_digest_is_of_the_pixels():
    pixels = _frame()
    assert measure(pixels, 0.25).digest == hashlib.sha256(pixels.tobytes()).hexdigest()


def test_only_central_25_um_are_used_for_the_map():
    pixels = _frame(side=200)
    pixels[:40], pixels[-40:], pixels[:, :40], pixels[:, -40:] = 0, 0, 0, 0
    assert measure(pixels, 25 / 120).small.min() > 0
    with pytest.raises(ValueError, match="smaller than 25"):
        measure(pixels, 0.01)
    assert measure(pixels, None).small.min() == 0
