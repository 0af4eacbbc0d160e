"""Sparse factorization finds the dyes of synthetic pixels, and gray is gray."""

import numpy as np
import torch

from hf_wbc.data.sparse_stains import sparse_dyes
from hf_wbc.data.style_transfer import to_luma

DYES = np.array([[0.55, 0.82, 0.14], [0.25, 0.75, 0.60]])
DYES /= np.linalg.norm(DYES, axis=1, keepdims=True)


def test_dyes_of_sparse_mixtures_are_recovered() -> None:
    rng = np.random.default_rng(0)
    amounts = rng.uniform(0.3, 2, (3000, 2))
    kind = rng.integers(0, 10, 3000)
    amounts[kind < 4, 0] = 0
    amounts[(kind >= 4) & (kind < 8), 1] = 0
    found = sparse_dyes(amounts @ DYES + rng.normal(0, 0.01, (3000, 3)))
    assert found is not None
    angles = np.degrees(np.arccos((found[:2] * DYES).sum(1).clip(max=1)))
    assert angles.max() < 3
    assert np.abs(found[2] @ found[:2].T).max() < 1e-9


def test_single_dye_or_too_few_pixels_return_none() -> None:
    amounts = np.linspace(0.3, 2, 500)[:, None]
    assert sparse_dyes(amounts[:50] @ DYES[:1]) is None
    assert sparse_dyes(amounts @ DYES[:1]) is None


def test_grayscale_preserves_luma() -> None:
    images = torch.rand(2, 3, 4, 4) * 255
    gray = to_luma(images, torch.zeros(2, 1))
    assert torch.equal(gray[:, 0], gray[:, 1]) and torch.equal(gray[:, 1], gray[:, 2])
    expected = 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]
    assert torch.allclose(gray[:, 0], expected, atol=1e-3)
