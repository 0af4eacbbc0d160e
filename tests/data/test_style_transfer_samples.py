"""The colors of a domain are a fixed sample of its pixels."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import hf_wbc.data.style_transfer as module
from hf_wbc.data.style_transfer import color_sample, style_maps
from hf_wbc.data.table import Table, concatenate

Draw = Callable[..., Table]


def test_small_domain_is_sampled_completely(domain: Draw) -> None:
    table = domain(0, num=70)
    assert np.array_equal(color_sample(table), table.chunks[0].reshape(-1, 3))


def test_large_domain_is_sampled_evenly(domain: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SIDE", 4)
    monkeypatch.setattr(module, "MAX_COLOR_IMAGES", 3)
    table = domain(0, num=41)
    places = [0, 4, 7, 11]
    expected = table.chunks[0][[0, 20, 40]][:, places][:, :, places]
    assert np.array_equal(color_sample(table), expected.reshape(-1, 3))


def test_domain_in_mixed_table_is_sampled_alone_ignoring_labels(domain: Draw) -> None:
    both = concatenate([domain(0), domain(1)])
    assert np.array_equal(color_sample(both, 1), color_sample(domain(1, label=-1)))


def test_style_maps_cover_every_source_and_target(domain: Draw) -> None:
    source, targets = concatenate([domain(0), domain(1)]), [domain(2), domain(3), domain(4)]
    means = [float(domain(seed).chunks[0].mean()) for seed in range(5)]
    maps = style_maps(
        source,
        targets,
        lambda *which: float(color_sample(*which).mean()),
        lambda start, end: np.array([end - start]),
    )
    expected = [[means[2 + target] - means[start] for target in range(3)] for start in range(2)]
    np.testing.assert_allclose(maps[..., 0].numpy(), expected)


def test_single_pixel_suffices(domain: Draw) -> None:
    table = domain(0, num=1)
    single = replace(table, chunks=(table.chunks[0][:, :1, :1],))
    assert color_sample(single).shape == (1, 3)
