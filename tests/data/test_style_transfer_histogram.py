"""Histogram matching gives every channel the target distribution."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hf_wbc.data.style_transfer import color_sample, count_levels, match_levels, transfer_levels
from hf_wbc.data.table import Table

Draw = Callable[..., Table]


def tables(source: Table, target: Table) -> np.ndarray:
    return transfer_levels(*(count_levels(color_sample(side)) for side in (source, target)))


def moved(source: Table, target: Table) -> np.ndarray:
    """Return the mapped colors (N, 3) of the whole source."""
    batch = source.batch(np.arange(len(source))).permute(0, 3, 1, 2).float()
    maps = torch.from_numpy(tables(source, target)).float().expand(len(batch), 3, 256)
    return match_levels(batch, maps).permute(0, 2, 3, 1).reshape(-1, 3).numpy()


def test_count_levels_counts_each_channel() -> None:
    colors = np.array([[0, 5, 255], [0, 6, 255], [9, 6, 255]], dtype=np.uint8)
    counts = count_levels(colors)
    assert counts.shape == (3, 256)
    assert counts[0, [0, 9]].tolist() == [2, 1] and counts[1, [5, 6]].tolist() == [1, 2]
    assert counts[2, 255] == 3 and counts.sum() == 9


def test_full_transfer_reaches_target_distribution(domain: Draw) -> None:
    source, target = domain(0), domain(1)
    before, after, end = color_sample(source), moved(source, target), color_sample(target)
    levels = np.arange(256)
    for channel in range(3):
        cdf, cdf_t = ((x[:, channel, None] <= levels + 0.5).mean(0) for x in (after, end))
        commonest = [np.bincount(x[:, channel]).max() / len(x) for x in (before, end)]
        assert np.abs(cdf - cdf_t).max() <= sum(commonest) < 0.15
    quantiles = np.linspace(0.01, 0.99, 50)
    found, expected = (np.quantile(x, quantiles, axis=0) for x in (after, end))
    np.testing.assert_allclose(found, expected, atol=1.5)


def test_tables_are_interpolated_quantiles(domain: Draw) -> None:
    source, target = domain(2), domain(3)
    colors, ends = color_sample(source), color_sample(target)
    found = tables(source, target)
    for channel in range(3):
        own, other = np.sort(colors[:, channel]), np.sort(ends[:, channel])
        levels, counts = np.unique(other, return_counts=True)
        places = (counts.cumsum() - counts / 2) / counts.sum()
        for level in np.unique(own):
            rank = ((own < level).mean() + (own <= level).mean()) / 2
            assert found[channel, level] == pytest.approx(np.interp(rank, places, levels))


def test_tables_are_monotonic(domain: Draw) -> None:
    assert (np.diff(tables(domain(0), domain(1))) >= 0).all()


def test_transfer_to_same_domain_is_identity(domain: Draw) -> None:
    source = domain(0)
    np.testing.assert_allclose(moved(source, source), color_sample(source), atol=1e-3)


def test_single_color_maps_to_target_median_and_back(domain: Draw) -> None:
    flat, other = domain(0, spread=0.0), domain(1)
    median = np.median(color_sample(other), axis=0)
    np.testing.assert_allclose(moved(flat, other), np.broadcast_to(median, (40 * 144, 3)), atol=1)
    np.testing.assert_array_equal(moved(other, flat), color_sample(flat))
