"""Macenko normalization finds the dyes of synthetic pixels and replaces them with others."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hf_wbc.data.augment_ops import stain_matrix
from hf_wbc.data.style_transfer import (
    StainMatrix,
    color_sample,
    find_stains,
    macenko,
    transfer_stains,
)
from hf_wbc.data.table import Table

Array = NDArray[np.float64]
NUM = 20_000
HOME = np.array([[0.55, 0.82, 0.14], [0.25, 0.75, 0.60]])
AWAY = np.array([[0.40, 0.90, 0.20], [0.30, 0.60, 0.74]])
"""Optical density per unit of the nuclear and red-cell dyes."""


def unit(rows: Array) -> Array:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def amounts(scale: tuple[float, float], seed: int = 0) -> Array:
    """Draw dye amounts (N, 2): background, either dye alone, and both."""
    rng = np.random.default_rng(seed)
    drawn = rng.uniform(0, 1, (NUM, 2)) * scale
    kind = rng.integers(0, 8, NUM)
    drawn[kind == 0] = 0
    drawn[kind == 1, 0] = 0
    drawn[kind == 2, 1] = 0
    return drawn


def picture(c: Array, mix: Array, white: Array) -> Array:
    """Compute unrounded intensities by the Beer-Lambert law."""
    return white * np.exp(-c @ unit(mix))


WHITE = np.array([250.0, 235.0, 210.0])


def test_dyes_of_synthetic_pixels_are_recovered() -> None:
    c = amounts((2.0, 1.0))
    found = find_stains(picture(c, HOME, WHITE).round().astype(np.uint8))
    angles = np.degrees(np.arccos((found.dyes[:2] * unit(HOME)).sum(1)))
    assert angles.max() < 2.0
    np.testing.assert_allclose(found.white, WHITE, atol=1)
    np.testing.assert_allclose(found.amounts, np.percentile(c, 99, axis=0), rtol=0.05)


def test_order_of_dyes_is_independent_of_strength(domain: Callable[..., Table]) -> None:
    for scale in ((2.0, 0.5), (0.7, 1.5)):
        found = find_stains(picture(amounts(scale), HOME, WHITE).round().astype(np.uint8))
        assert found.dyes[0] @ unit(HOME)[0] > 0.99


def test_transfer_matches_unmixing_scaling_and_mixing() -> None:
    """Check against least-squares unmixing, scaling, and mixing, as in the paper."""
    home = StainMatrix(WHITE, square(HOME), np.array([2.0, 1.0]))
    white = np.array([240.0, 240.0, 238.0])
    away = StainMatrix(white, square(AWAY), np.array([1.5, 1.2]))
    c = amounts((2.0, 1.0))[:64]
    before = picture(c, HOME, WHITE)
    unmixed = np.linalg.lstsq(unit(HOME).T, -np.log(before / WHITE).T, rcond=None)[0].T
    expected = picture(unmixed * [1.5 / 2.0, 1.2 / 1.0], AWAY, white)
    batch = torch.from_numpy(before.T.reshape(1, 3, 8, 8)).float()
    maps = torch.from_numpy(transfer_stains(home, away)).float()[None]
    after = macenko(batch, maps)[0].flatten(1).T
    np.testing.assert_allclose(after.numpy(), expected, rtol=1e-4)


def square(mix: Array) -> Array:
    return np.concatenate([unit(mix), unit(np.cross(*unit(mix))[None])])


def test_transfer_to_same_domain_is_identity(domain: Callable[..., Table]) -> None:
    table = domain(0)
    stains = find_stains(color_sample(table))
    batch = table.batch(np.arange(8)).permute(0, 3, 1, 2).float()
    before = batch.clone()
    maps = torch.from_numpy(transfer_stains(stains, stains)).float().expand(8, 3, 4)
    torch.testing.assert_close(macenko(batch, maps), batch, atol=0.01, rtol=0)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_domain_without_two_dyes_uses_giemsa_defaults(level: int) -> None:
    stains = find_stains(np.full((500, 3), level, dtype=np.uint8))
    np.testing.assert_array_equal(stains.dyes, stain_matrix().numpy())
    single = picture(amounts((2.0, 0.0)), HOME, WHITE)
    np.testing.assert_array_equal(find_stains(single.astype(np.uint8)).dyes, stain_matrix().numpy())
    other = find_stains(picture(amounts((2.0, 1.0)), HOME, WHITE).astype(np.uint8))
    images = torch.tensor([0.0, level, 255.0]).expand(2, 3, 3)[..., None].contiguous()
    for ends in ((stains, other), (other, stains), (stains, stains)):
        maps = torch.from_numpy(transfer_stains(*ends)).float().expand(2, 3, 4)
        assert not macenko(images, maps).clamp(0, 255).isnan().any()
