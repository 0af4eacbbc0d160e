"""Splits: exact sizes, every class in each, groups kept together, independent of order."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_wbc.data.schema import SPLITS
from hf_wbc.preparation.split import assign_splits

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 12), st.sampled_from("ab")), min_size=1, max_size=60
)


@pytest.mark.parametrize("seed", [0, 1])
def test_split_sizes_are_seven_to_one_to_two(seed: int) -> None:
    labels = [0] * 100 + [1] * 10 + [2] * 37
    splits = assign_splits(labels, [f"{row}" for row in range(147)], seed=seed)
    for label, sizes in {0: (70, 10, 20), 1: (7, 1, 2), 2: (26, 4, 7)}.items():
        found = Counter(s for s, of in zip(splits, labels, strict=True) if of == label)
        assert tuple(found[split] for split in SPLITS) == sizes


@pytest.mark.parametrize("num", range(3, 40))
def test_class_of_three_or_more_is_in_every_split(num: int) -> None:
    splits = assign_splits([0] * num, [f"{row}" for row in range(num)])
    sizes = np.array([np.sum(splits == split) for split in SPLITS])
    assert sizes.sum() == num and sizes.min() > 0
    exact = num * np.array([0.7, 0.1, 0.2])
    assert np.abs(sizes - exact).max() < 1 or num < 10  # fewer than 10 need a validation image


@pytest.mark.parametrize(("num", "expected"), [(1, {"train": 1}), (2, {"train": 1, "test": 1})])
def test_tiny_class_goes_to_train_and_then_test(num: int, expected: dict[str, int]) -> None:
    assert Counter(assign_splits([0] * num, [str(row) for row in range(num)])) == expected


@given(ROWS, st.integers(0, 3), st.randoms())
def test_groups_are_kept_together_for_any_row_order(rows, seed, random) -> None:
    labels, groups, domains = ([row[i] for row in rows] for i in range(3))
    groups = [f"g{group}" for group in groups]
    splits = assign_splits(labels, groups, domains, seed=seed)
    assert set(splits) <= set(SPLITS)
    assert len({*zip(groups, splits, strict=True)}) == len({*groups})
    order = list(range(len(rows)))
    random.shuffle(order)
    again = assign_splits(
        [labels[row] for row in order],
        [groups[row] for row in order],
        [domains[row] for row in order],
        seed=seed,
    )
    assert list(again) == [splits[row] for row in order]


@given(ROWS, st.sets(st.integers(0, 12)), st.integers(0, 3))
def test_stratum_of_three_groups_is_in_every_split(rows, only, seed) -> None:
    labels, groups, domains = ([row[i] for row in rows] for i in range(3))
    train_only = [group in only for group in groups]
    names = [f"g{group}" for group in groups]
    splits = assign_splits(labels, names, domains, train_only=train_only, seed=seed)
    strata_of: dict[str, set[tuple[str, int]]] = {}
    for name, domain, label in zip(names, domains, labels, strict=True):
        strata_of.setdefault(name, set()).add((domain, label))
    found: dict[tuple[str, int], set[str]] = {}
    own: Counter[tuple[str, int]] = Counter()
    for name, strata in strata_of.items():
        if len(strata) == 1 and int(name[1:]) not in only:
            own.update(strata)
    for row, (label, _, domain) in enumerate(rows):
        found.setdefault((domain, label), set()).add(splits[row])
    assert all(found[stratum] == set(SPLITS) for stratum, number in own.items() if number >= 3)
    assert all(s == "train" for s, fixed in zip(splits, train_only, strict=True) if fixed)


def test_seed_changes_the_split() -> None:
    rows = [str(row) for row in range(200)]
    first, same, other = (assign_splits([0] * 200, rows, seed=seed) for seed in (0, 0, 1))
    assert (first == same).all()
    assert 0.2 < (first != other).mean() < 0.8


def test_split_is_stable_across_releases() -> None:
    splits = assign_splits([0] * 10, [f"cell_{row}.png" for row in range(10)], seed=0)
    assert [SPLITS.index(split) for split in splits] == [2, 0, 2, 0, 0, 1, 0, 0, 0, 0]


def test_domains_are_separate_strata() -> None:
    splits = assign_splits([0] * 40, [f"{r}" for r in range(40)], ["a", "b"] * 20)
    for domain in (0, 1):
        assert Counter(splits[domain::2]) == {"train": 14, "validation": 2, "test": 4}


@pytest.mark.parametrize("fractions", [(0.7, 0.1, 0.1), (1.0, 0.0, 0.0), (1.2, -0.4, 0.2)])
def test_invalid_fractions_are_refused(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="three positive numbers that sum to 1"):
        assign_splits([0], ["a"], fractions=fractions)


def test_arguments_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 labels but 1 groups"):
        assign_splits([0, 1], ["a"])
