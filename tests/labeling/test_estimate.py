"""Estimates from random cells: the order, the intervals' coverage, sets and learning curves."""

import numpy as np
import pytest

from hf_wbc.evaluation.metrics import macro_f1
from hf_wbc.labeling.estimate import (
    calibrate_locally,
    estimate_scores,
    extrapolate,
    random_order,
    random_sample,
)
from hf_wbc.labeling.pool import Floats, Ids

IDS = [f"{number}.png" for number in range(50)]


def test_order_depends_only_on_image_ids() -> None:
    order = random_order(IDS)
    shuffled = IDS[::-1]
    assert [IDS[row] for row in order] == [shuffled[row] for row in random_order(shuffled)]
    assert sorted(order.tolist()) == list(range(50))
    assert order.tolist() != random_order(IDS, seed=1).tolist()


def test_order_does_not_depend_on_folders() -> None:
    in_folders = [f"{'ab'[number % 2]}/{name}" for number, name in enumerate(IDS)]
    assert random_order(in_folders).tolist() == random_order(IDS).tolist()
    twice = [f"{patient}/{name}" for patient in "ab" for name in IDS]
    order = random_order(twice)
    assert sorted(order.tolist()) == list(range(100))
    assert len({*(order[:20] % 50).tolist()}) > 10  # images of one name are not drawn together


def test_sample_ends_before_first_unlabeled_cell() -> None:
    order = [IDS[row] for row in random_order(IDS)]
    labeled = {*order[:7], *order[8:20]}
    assert [IDS[row] for row in random_sample(IDS, labeled)] == order[:7]
    assert len(random_sample(IDS, set(IDS))) == 50


def population(seed: int) -> tuple[Ids, Ids, Floats]:
    """True and predicted classes of 300 cells in four classes, and probabilities."""
    rng = np.random.default_rng((seed, 2))
    classes, shares, right = [1, 8, 9, 10], [0.07, 0.59, 0.16, 0.18], [0.9, 0.95, 0.8, 0.85]
    true = rng.choice(classes, 300, p=shares)
    is_right = rng.random(300) < np.array(right)[np.searchsorted(classes, true)]
    predicted = np.where(is_right, true, rng.choice(classes, 300))
    p = np.full((300, 11), 0.01)
    p[np.arange(300), predicted] = 0.9
    return true, predicted, p


@pytest.mark.slow
@pytest.mark.ci
def test_intervals_cover_the_truth() -> None:
    held = 0
    for seed in range(100):
        true, predicted, p = population(seed)
        confusion = np.zeros((11, 11))
        np.add.at(confusion, (true, predicted), 1)
        truth = float(macro_f1(confusion))
        rows = np.random.default_rng(seed).permutation(300)[:40]
        seen = np.unique(true).tolist()
        found = estimate_scores(
            predicted, predicted[rows], true[rows], probabilities=p, classes=seen
        )
        held += found.interval[0] <= truth <= found.interval[1]
    assert held >= 90


def test_recall_without_random_cells_has_wide_interval() -> None:
    true, predicted, _ = population(0)
    rows = np.flatnonzero(true != 1)[:40]
    found = estimate_scores(predicted, predicted[rows], true[rows], classes=[1])
    _, low, high = found.recalls["eosinophil"]
    assert high - low > 0.5 and found.num_sampled["eosinophil"] == 0


def test_merged_classes_count_as_one() -> None:
    true = np.array([8] * 20)
    predicted = np.array([7, 8] * 10)
    merge = ("neutrophil_banded=neutrophil_segmented",)
    apart, merged = (
        estimate_scores(predicted, predicted, true, merge=each).accuracy for each in ((), merge)
    )
    assert apart < 0.7 and merged > 0.99


def test_too_few_random_cells_are_reported() -> None:
    with pytest.raises(ValueError, match="9 cells"):
        estimate_scores(np.zeros(50, int), np.zeros(9, int), np.zeros(9, int))


def test_locally_calibrated_sets_have_nominal_coverage() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 4, 2000)
    logits = 6 * np.eye(11)[np.where(rng.random(2000) < 0.6, true, rng.integers(0, 4, 2000))]
    found = calibrate_locally(logits[:60], true[:60])
    sets = found.sets.sets(logits[60:] / found.temperature)
    assert sets[np.arange(1940), true[60:]].mean() >= 0.85
    assert found.temperature > 1 and "90%" in found.sentence


def test_few_cells_give_no_guarantee() -> None:
    assert "too few" in calibrate_locally(np.eye(11)[:5], np.arange(5)).sentence


def test_learning_curve_is_extrapolated() -> None:
    sizes = [12, 25, 50]
    scores = [[0.9 - 1 / np.sqrt(size)] * 3 for size in sizes]
    found = extrapolate(sizes, scores, 50)
    assert np.isclose(found.gain, 1 / np.sqrt(50) - 1 / 10, atol=1e-6)
    flat = extrapolate(sizes, [[0.9] * 3] * 3, 50)
    assert np.isclose(flat.gain, 0, atol=1e-9)
