"""The benchmark: test cells stay separate, and learning curves are computed from the draws."""

from dataclasses import replace

import numpy as np
import pytest

from hf_wbc.labeling.pool import Pool
from hf_wbc.labeling.simulate import Draw, advantages, curve, divide, scorable, simulate
from tests.support.shifted_laboratory import MYELOBLAST, laboratory, source_head


def test_held_out_cells_and_pool_are_disjoint_and_complete() -> None:
    pool = laboratory(200)
    rows, test = divide(pool, 0)
    assert sorted([*rows, *test]) == list(range(200)) and len(rows) == 110
    assert rows.tolist() != divide(pool, 1)[0].tolist()


def test_patients_are_not_split() -> None:
    patients = np.repeat([f"patient {number}" for number in range(20)], 10)
    pool = Pool(**{**vars(laboratory(200)), "groups": patients})
    for seed in range(5):
        rows, test = divide(pool, seed)
        assert not set(patients[rows]) & set(patients[test])
        assert sorted([*rows, *test]) == list(range(200)) and len(rows) > 50


def test_rare_classes_and_unlabeled_cells_are_excluded() -> None:
    pool = laboratory(100)
    labels = pool.labels.copy()
    labels[:3], labels[3:10] = MYELOBLAST, -1
    cells, note = scorable(Pool(**{**vars(pool), "labels": labels}))
    assert len(cells) == 90 and "myeloblast (3)" in note
    with pytest.raises(ValueError, match="no labels"):
        scorable(Pool(**{**vars(pool), "labels": np.full(100, -1)}))
    with pytest.raises(ValueError, match=r"too few cells.*\([1-3]\)"):
        scorable(laboratory(100).take(np.arange(3)))


@pytest.mark.parametrize(
    ("budgets", "seeds"), [((10,), 1), ((2,), 0), ((), 1), ((-5,), 1), ((2, -5), 1)]
)
def test_simulation_without_a_possible_budget_is_reported(
    budgets: tuple[int, ...], seeds: int
) -> None:
    with pytest.raises(ValueError, match="--budgets"):
        list(
            simulate(
                laboratory(12), source_head(), strategies=("random",), budgets=budgets, seeds=seeds
            )
        )


def test_budgets_are_reached_in_any_order() -> None:
    draws = simulate(laboratory(40), source_head(), strategies=("random",), budgets=(8, 4), seeds=1)
    assert [draw.budget for draw in draws] == [4, 8]


def test_laboratory_of_one_patient_is_reported() -> None:
    pool = Pool(**{**vars(laboratory(40)), "groups": np.full(40, "only one")})
    with pytest.raises(ValueError, match="40 cells"):
        list(simulate(pool, source_head(), strategies=("random",), budgets=(4,), seeds=2))


@pytest.mark.slow
@pytest.mark.ci
def test_default_strategy_is_no_worse_than_random() -> None:
    draws = list(
        simulate(
            laboratory(300), source_head(), strategies=("typical_then_margin", "random"),
            budgets=(10, 40, 5000), seeds=4,
        )
    )  # fmt: skip
    rows = {(row["strategy"], row["budget"]): row for row in curve(draws)}
    assert len(draws) == 16 and set(rows) == {
        (strategy, budget) for strategy in ("typical_then_margin", "random") for budget in (10, 40)
    }
    best = rows["typical_then_margin", 40]
    assert best["gain"] > 0.1 and best["below_zero_shot"] == 0
    low, high = best["interval"]
    assert low <= best["macro_f1"] <= high
    assert best["macro_f1"] >= rows["random", 40]["macro_f1"] - 0.02


def test_strategies_are_compared_on_the_same_repetitions() -> None:
    def draw(laboratory: str, seed: int, strategy: str, score: float) -> Draw:
        return Draw(
            "m", laboratory, laboratory, 90, seed, strategy, "logistic", 50, score, 0.2, score, True
        )

    draws = [
        draw(laboratory, seed, strategy, 0.5 + 0.1 * seed + (0.05 if strategy == "margin" else 0))
        for laboratory in ("a", "b")
        for seed in range(4)
        for strategy in ("margin", "random")
    ]
    both = [*draws, *(replace(each, laboratory="mean of all") for each in draws)]
    rows = {row["laboratory"]: row for row in advantages(both)}
    assert set(rows) == {"a", "b", "mean of all"} and rows["a"]["against"] == "random"
    for row in rows.values():
        assert row["difference"] == pytest.approx(0.05)
        assert row["interval"] == pytest.approx((0.05, 0.05))  # repetitions vary far more
