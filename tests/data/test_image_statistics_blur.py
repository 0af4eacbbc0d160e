"""Batch blur matches SciPy's Gaussian filter, sample by sample."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from hf_wbc.data.augment import NO_CHANGE, apply_augmentation
from hf_wbc.data.augment_ops import draw_augmentation_params
from hf_wbc.data.image_statistics import blur

SIDE, UM = 20, 25.0
PLAIN = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
WIDTHS = torch.tensor([0.0, 0.4, 1.5, 7.0])
"""Widths in pixels; the last kernel is wider than the image."""


@pytest.fixture
def pixels() -> Tensor:
    shape = (len(WIDTHS), SIDE, SIDE, 3)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def filtered(image: Tensor, width: float) -> np.ndarray:
    """Blur one image (3, H, W), mirrored beyond its edge."""
    reach = int(np.ceil(4 * float(WIDTHS.max())))
    planes = [
        gaussian_filter(plane.double().numpy(), width, mode="reflect", radius=reach)
        for plane in image
    ]
    return np.stack(planes)


def test_every_sample_is_blurred_by_its_own_width(pixels: Tensor) -> None:
    images = pixels.permute(0, 3, 1, 2).float()
    blurred = blur(images, WIDTHS)
    assert torch.equal(blurred[0], images[0])
    for image, width, found in zip(images[1:], WIDTHS[1:], blurred[1:], strict=True):
        np.testing.assert_allclose(found.numpy(), filtered(image, float(width)), atol=1e-2)


def test_zero_width_returns_same_image(pixels: Tensor) -> None:
    images = pixels.permute(0, 3, 1, 2).float()
    assert blur(images, torch.zeros(len(images))) is images


def test_gray_image_stays_gray() -> None:
    gray = torch.full((2, 3, SIDE, SIDE), 77.0)
    torch.testing.assert_close(blur(gray, torch.tensor([0.3, 5.0])), gray, rtol=1e-5, atol=0)


def test_batch_blur_is_in_um_and_precedes_flips(pixels: Tensor) -> None:
    changes = draw_augmentation_params(len(WIDTHS), torch.Generator().manual_seed(2))
    changes[:, 0], changes[:, 1], changes[:, 2] = 0.9, 0.1, 0.3  # flipped, rotated once
    strength = replace(NO_CHANGE, flips=True, quarter_turns=True)
    width_um = WIDTHS * UM / SIDE
    images = apply_augmentation(pixels, changes, strength, *PLAIN, um=UM, blur_um=width_um)
    plain = pixels.permute(0, 3, 1, 2).float()
    for image, width, found in zip(plain, WIDTHS, images, strict=True):
        expected = np.rot90(filtered(image, float(width))[:, :, ::-1], axes=(1, 2))
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-2)
