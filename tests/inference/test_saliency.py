"""Hiding the pixels that a valid saliency map marks costs more than hiding others."""

import numpy as np
import torch
from torch import Tensor

from hf_wbc.inference.saliency import NUM_OTHERS, SHARE, deletion_test

SIDE = 40


def patch_logits(images: Tensor) -> Tensor:
    """Score class 1 by the brightness of the central square relative to the rest."""
    middle = images[:, :, 18:22, 18:22].mean((1, 2, 3)) - images.mean((1, 2, 3))
    return torch.stack([torch.zeros(len(images)), 8 * middle - 4], 1)


def cell() -> Tensor:
    image = torch.zeros(1, 3, SIDE, SIDE)
    image[:, :, 18:22, 18:22] = 1
    return image


def test_map_of_decisive_region_passes() -> None:
    found = deletion_test(patch_logits, cell(), 1, cell()[0, 0].numpy())
    truth = patch_logits(cell()).softmax(1)[0, 1].item()
    np.testing.assert_allclose(found.original, truth, atol=1e-5)
    assert found.passed and found.marked_hidden < 0.6 < 0.9 < found.mean_random_hidden
    assert len(found.random_hidden) == NUM_OTHERS


def test_map_of_another_region_fails() -> None:
    corner = np.zeros((SIDE, SIDE), np.float32)
    corner[:18, :18] = 1
    found = deletion_test(patch_logits, cell(), 1, corner)
    assert not found.passed and found.marked_hidden > found.mean_random_hidden


def test_all_hidden_regions_have_equal_size() -> None:
    sizes: list[float] = []

    def logits(images: Tensor) -> Tensor:
        sizes.extend(((images - images[:1]).abs().sum(1) > 0).float().mean((1, 2)).tolist())
        return torch.zeros(len(images), 2)

    noise = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    deletion_test(logits, noise, 0, noise[0, 0].numpy())
    assert sizes == [0.0, *[sizes[1]] * (NUM_OTHERS + 1)]
    np.testing.assert_allclose(sizes[1], SHARE, atol=1 / SIDE**2)
