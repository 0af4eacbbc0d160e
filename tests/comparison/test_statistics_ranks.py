"""Ranks, Friedman's test, and the critical difference match SciPy."""

import numpy as np
import pytest
from scipy import stats

from hf_wbc.comparison.statistics import block_ranks, friedman, rank, studentized_range_quantile


@pytest.mark.parametrize("levels", [4, 1000])
def test_friedman_matches_scipy_with_and_without_ties(levels: int) -> None:
    scores = np.random.default_rng(levels).integers(0, levels, (9, 7)).astype(float)
    ranks = block_ranks(scores)
    assert ranks == pytest.approx(stats.rankdata(-scores, axis=1))
    expected = stats.friedmanchisquare(*scores.T)
    assert friedman(ranks) == pytest.approx((expected.statistic, expected.pvalue))


def test_always_tied_methods_are_equal() -> None:
    assert friedman(block_ranks(np.ones((4, 3)))) == (0, 1)


@pytest.mark.parametrize("k", [2, 3, 10, 60])
def test_studentized_range_quantile_matches_scipy(k: int) -> None:
    expected = stats.studentized_range.ppf(0.95, k, np.inf)
    assert studentized_range_quantile(0.95, k) == pytest.approx(expected, rel=1e-9)


def test_critical_difference_matches_published_example() -> None:
    found = rank(["a", "b", "c", "d"], np.random.default_rng(0).random((14, 4)))
    assert found.critical_difference == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), abs=1e-3)


def test_best_method_has_first_rank() -> None:
    scores = np.array([[0.2, 0.9, 0.5], [0.1, 0.8, 0.7]])
    found = rank(["low", "high", "middle"], scores)
    assert found.names == ("high", "middle", "low") and found.mean_ranks == (1, 2, 3)


@pytest.mark.parametrize("seed", range(5))
def test_methods_share_a_letter_unless_significantly_different(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.linspace(0, 3, 8) + rng.normal(size=(12, 8))
    found = rank([f"m{i}" for i in range(8)], scores)
    told = 0
    for one in range(8):
        for other in range(8):
            apart = abs(found.mean_ranks[one] - found.mean_ranks[other])
            is_told = apart > found.critical_difference
            assert found.differ(one, other) == is_told
            assert bool(set(found.letters[one]) & set(found.letters[other])) != is_told
            told += is_told
    assert told
    groups = [{i for i in range(8) if x in found.letters[i]} for x in {*"".join(found.letters)}]
    assert not any(a < b for a in groups for b in groups), "no letter says what another says"


def test_two_methods_or_one_block_are_not_ranked() -> None:
    for shape in ((5, 2), (1, 5)):
        with pytest.raises(ValueError, match="cannot be ranked"):
            rank([str(i) for i in range(shape[1])], np.zeros(shape))
