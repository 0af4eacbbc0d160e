"""Reinhard transfer yields the target mean and standard deviation in l alpha beta."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from hf_wbc.data.style_transfer import color_sample, lab_statistics, reinhard, transfer_lab
from hf_wbc.data.table import Table

Draw = Callable[..., Table]


def to_lab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert colors (N, 3) of 0..255 as the paper does, one axis at a time."""
    red, green, blue = rgb.T
    long = np.log10(0.3811 * red + 0.5783 * green + 0.0402 * blue)
    middle = np.log10(0.1967 * red + 0.7244 * green + 0.0782 * blue)
    short = np.log10(0.0241 * red + 0.1288 * green + 0.8444 * blue)
    light = (long + middle + short) / math.sqrt(3)
    alpha = (long + middle - 2 * short) / math.sqrt(6)
    beta = (long - middle) / math.sqrt(2)
    return np.stack([light, alpha, beta], axis=1)


def images(table: Table) -> torch.Tensor:
    return table.batch(np.arange(len(table))).permute(0, 3, 1, 2).float()


def moved(table: Table, source: Table, target: Table) -> torch.Tensor:
    found = [lab_statistics(color_sample(side)) for side in (source, target)]
    maps = torch.from_numpy(transfer_lab(*found)).float()
    return reinhard(images(table), maps.expand(len(table), 3, 4))


def colors(batch: torch.Tensor) -> NDArray[np.float64]:
    return batch.permute(0, 2, 3, 1).reshape(-1, 3).double().numpy()


def test_full_transfer_reaches_target_statistics(domain: Draw) -> None:
    source, target = domain(0), domain(1)
    after, end = (to_lab(colors(b)) for b in (moved(source, source, target), images(target)))
    np.testing.assert_allclose(after.mean(0), end.mean(0), atol=1e-4)
    np.testing.assert_allclose(after.std(0), end.std(0), rtol=1e-4)


def test_every_color_is_scaled_and_shifted_in_lab(domain: Draw) -> None:
    source, target = domain(2), domain(3)
    before, end = (to_lab(colors(images(side))) for side in (source, target))
    expected = (before - before.mean(0)) / before.std(0) * end.std(0) + end.mean(0)
    found = to_lab(colors(moved(source, source, target)))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_transfer_to_same_domain_is_identity(domain: Draw) -> None:
    source = domain(0)
    torch.testing.assert_close(moved(source, source, source), images(source), atol=0.02, rtol=0)


def test_single_color_maps_to_target_mean(domain: Draw) -> None:
    flat, target = domain(0, spread=0.0), domain(1)
    mean = to_lab(colors(moved(flat, flat, target))).mean(0)
    np.testing.assert_allclose(mean, to_lab(colors(images(target))).mean(0), rtol=1e-5, atol=1e-4)


def test_colors_absent_from_a_flat_domain_stay_finite(domain: Draw) -> None:
    flat = domain(0, spread=0.0)
    black, white = (
        Table((np.full((2, 4, 4, 3), level, np.uint8),), np.zeros(2, int), np.zeros(2, int),
              ["a", "b"], ("x",))
        for level in (0, 255)
    )  # fmt: skip
    for table in (black, white):
        for source, target in ((flat, domain(1)), (domain(1), flat), (black, white)):
            assert moved(table, source, target).isfinite().all()
