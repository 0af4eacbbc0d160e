"""Every strategy fulfills the contract, and chooses from clusters as its paper says."""

import time

import numpy as np
import pytest

from hf_wbc.labeling.strategies import PoolView, load_strategy, strategy_names
from hf_wbc.taxonomy import NAMES


def view(num: int = 90, labeled: tuple[int, ...] = ()) -> PoolView:
    """Three clusters of 60, 34 and 6 % of the cells, predicted as three classes."""
    rng = np.random.default_rng(0)
    of = np.repeat([0, 1, 2], [round(0.6 * num), round(0.34 * num), 0])
    of = np.r_[of, np.full(num - len(of), 2)]
    points = np.eye(3, 5)[of] * 10 + rng.normal(size=(num, 5))
    sharp = rng.uniform(0.4, 0.95, num)
    p = np.full((num, len(NAMES)), 0.0)
    p[np.arange(num), of] = sharp
    p[np.arange(num), (of + 1) % 3] = 1 - sharp
    rows = np.array(labeled, np.int64)
    return PoolView(
        points.astype(np.float32),
        p.astype(np.float32),
        np.setdiff1d(np.arange(num), rows),
        rows,
        of[rows].astype(np.int64),
    )


@pytest.mark.parametrize("name", strategy_names())
@pytest.mark.parametrize("labeled", [(), (0, 1, 60, 61, 85)])
@pytest.mark.parametrize("num", [1, 10, 85])
def test_chosen_cells_are_distinct_candidates(
    name: str, labeled: tuple[int, ...], num: int
) -> None:
    pool = view(labeled=labeled)
    chosen = load_strategy(name)(pool, num, np.random.default_rng(0))
    assert len(chosen) == num == len(set(chosen.tolist()))
    assert set(chosen.tolist()) <= set(pool.candidates.tolist())
    again = load_strategy(name)(pool, num, np.random.default_rng(0))
    assert chosen.tolist() == again.tolist()


@pytest.mark.parametrize("name", strategy_names())
def test_identical_cells_can_be_chosen(name: str) -> None:
    same = PoolView(
        np.ones((30, 4), np.float32), np.full((30, 11), 1 / 11, np.float32), np.arange(30)
    )
    chosen = load_strategy(name)(same, 12, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 12


def test_margin_chooses_smallest_margins() -> None:
    pool = view()
    chosen = load_strategy("margin")(pool, 5, np.random.default_rng(0))
    assert np.sort(pool.margins)[4] == pool.margins[chosen].max()


@pytest.mark.parametrize("name", ["k_center", "typiclust"])
def test_three_cells_come_from_three_clusters(name: str) -> None:
    chosen = load_strategy(name)(view(), 3, np.random.default_rng(0))
    assert len(set(np.searchsorted([54, 85], chosen, side="right").tolist())) == 3


def test_class_seeking_prefers_rare_classes() -> None:
    pool = view(labeled=(0, 1, 2, 60, 61))
    chosen = load_strategy("class_seeking")(pool, 2, np.random.default_rng(0))
    assert (pool.probabilities[chosen, 2] > 0.3).all()


def test_default_strategy_switches_from_typical_to_uncertain_cells() -> None:
    few, many = view(labeled=(0,)), view(labeled=tuple(range(20)))
    default, rng = load_strategy("typical_then_margin"), np.random.default_rng
    assert default(few, 5, rng(0)).tolist() == load_strategy("typiclust")(few, 5, rng(0)).tolist()
    assert default(many, 5, rng(0)).tolist() == load_strategy("margin")(many, 5, rng(0)).tolist()


def test_unknown_strategy_is_reported() -> None:
    with pytest.raises(ValueError, match="margin"):
        load_strategy("margins")


@pytest.mark.slow
@pytest.mark.parametrize("name", strategy_names())
def test_choosing_from_100_000_cells_takes_under_two_seconds(name: str) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(100_000, 64)).astype(np.float32)
    p = rng.dirichlet(np.ones(11), 100_000).astype(np.float32)
    labeled = np.arange(100)
    pool = PoolView(points, p, np.arange(100, 100_000), labeled, labeled % 11)
    start = time.process_time()
    load_strategy(name)(pool, 10, rng)
    assert time.process_time() - start < 2


def test_k_center_takes_the_cell_farthest_from_all_labels() -> None:
    pool = view(labeled=(0, 1, 60, 89))
    (chosen,) = load_strategy("k_center")(pool, 1, np.random.default_rng(0))
    gaps = pool.embedding[pool.candidates, None] - pool.embedding[pool.labeled]
    distances = (gaps**2).sum(2).min(1)
    assert chosen == pool.candidates[distances.argmax()]
