"""Stain jitter matches color deconvolution, jitter, and mixing, sample by sample."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hf_wbc.data.augment import NO_CHANGE, apply_augmentation
from hf_wbc.data.augment_ops import (
    NUM_DRAWS,
    draw_augmentation_params,
    draw_stain_params,
    stain_affine,
    stain_matrix,
)
from hf_wbc.data.preprocessing import normalize

PLAIN = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
GIEMSA = np.array(
    [
        [0.83475023, 0.51355628, 0.1963304],
        [0.092789, 0.954111, 0.283111],
        [-0.04192756, -0.21810967, 0.74879201],
    ]
)
"""`rgb_from_bex` of scikit-image 0.26, with unnormalized rows."""
NUM, SIDE, STRENGTH = 6, 7, 0.2


@pytest.fixture
def pixels() -> Tensor:
    shape = (NUM, SIDE, SIDE, 3)
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.fixture
def changes() -> Tensor:
    return draw_augmentation_params(NUM, torch.Generator().manual_seed(1))


def jittered(image: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Convert one image (H, W, 3) of 0..255 to densities and dyes, jitter, and convert it back."""
    rows = GIEMSA / np.linalg.norm(GIEMSA, axis=1, keepdims=True)
    amounts = np.linalg.solve(rows.T, -np.log(image / 255).reshape(-1, 3).T).T
    density = (amounts * (1 + scale) + shift) @ rows
    return (255 * np.exp(-density)).reshape(image.shape)


def test_stain_vectors_match_imagej() -> None:
    expected = GIEMSA / np.linalg.norm(GIEMSA, axis=1, keepdims=True)
    np.testing.assert_allclose(stain_matrix().numpy(), expected, atol=1e-7)


def test_stain_jitter_matches_deconvolution_in_optical_density(
    pixels: Tensor, changes: Tensor
) -> None:
    images = apply_augmentation(pixels, changes, replace(NO_CHANGE, stain=STRENGTH), *PLAIN)
    for sample in range(NUM):
        scale, shift = (
            (2 * changes[sample, first : first + 3].double().numpy() - 1) * STRENGTH
            for first in (11, 14)
        )
        expected = jittered(pixels[sample].double().numpy(), scale, shift)
        np.testing.assert_allclose(images[sample].permute(1, 2, 0).numpy(), expected, rtol=2e-4)


def test_jitter_of_one_dye_leaves_others_unchanged() -> None:
    changes = torch.full((1, NUM_DRAWS), 0.5)
    changes[0, 11] = 1.0  # azure, 50 % more
    azure, eosin, _ = stain_matrix()
    density = (0.8 * azure + 0.3 * eosin)[None, :, None]
    image = 255 * torch.exp(-density).float()
    after = -torch.log(stain_affine(image, draw_stain_params(changes, 0.5)) / 255)
    amounts = torch.linalg.solve(stain_matrix().T, after[0, :, 0].double())
    torch.testing.assert_close(amounts, torch.tensor([1.2, 0.3, 0.0]).double(), atol=1e-4, rtol=0)


def test_zero_strength_equals_normalize(pixels: Tensor, changes: Tensor) -> None:
    images = apply_augmentation(pixels, changes, replace(NO_CHANGE, stain=0.0), *PLAIN)
    assert torch.equal(images, normalize(pixels, *PLAIN))


def test_black_pixels_stay_finite(changes: Tensor) -> None:
    black = torch.zeros(NUM, SIDE, SIDE, 3, dtype=torch.uint8)
    images = apply_augmentation(black, changes, replace(NO_CHANGE, stain=1.0), *PLAIN)
    assert images.isfinite().all()
