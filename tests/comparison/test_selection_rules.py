"""A rule's choice is read from the history and scored only by the oracle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_wbc.comparison.collect import collect
from hf_wbc.comparison.result_table import result_rows
from hf_wbc.comparison.selection_rules import RuleRegrets, rule_regrets

MakeRun = Callable[..., Path]


def line(step: int, source: float, oracle: float | None, im: float, phase: str = "fit") -> Any:
    """Return one evaluation from home to away."""
    row: dict[str, Any] = {"step": step, "phase": phase, "loss": {"loss": 1.0}}
    row["source_val"] = {"home": {"macro_f1": source}}
    row["unlabeled"] = {"away": {"im": im}}
    if oracle is not None:
        row["oracle"] = {"away": {"macro_f1": oracle}}
    return row


A = [line(10, 0.9, 0.4, 1.0), line(20, 0.8, 0.6, 2.0)]
B = [line(10, 0.5, 0.7, 5.0), line(20, 0.95, 0.2, 3.0)]


def judged(root: Path) -> RuleRegrets:
    return rule_regrets(result_rows(collect([root]).runs))


def test_each_rule_picks_its_best_evaluation_within_a_run(
    tmp_path: Path, make_run: MakeRun
) -> None:
    make_run(tmp_path, "a", history=A)
    make_run(tmp_path, "b", history=B)
    found = judged(tmp_path)
    within = {each.rule: each for each in found.within}
    assert within["source_val"].score == pytest.approx((0.4 + 0.2) / 2)
    assert within["source_val"].regret == pytest.approx((0.2 + 0.5) / 2)
    assert within["im"].score == pytest.approx((0.6 + 0.7) / 2) and within["im"].regret == 0
    assert within["last"].score == pytest.approx((0.6 + 0.2) / 2)
    assert within["im"].correlation == 1 and within["source_val"].correlation == -1
    by_method = {(each.method, each.rule): each.score for each in found.by_method}
    assert by_method["a", "source_val"] == 0.4 and by_method["b", "im"] == 0.7


def test_each_rule_picks_one_run_among_all(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a", history=A, kept_step=10)
    make_run(tmp_path, "b", history=B, kept_step=20)
    among = {each.rule: each for each in judged(tmp_path).among}
    tests = {row.method: row.macro_f1 for row in result_rows(collect([tmp_path]).runs)[:2]}
    assert set(tests) == {"a", "b"}
    chosen = among["source_val"]
    assert (chosen.method, chosen.step, chosen.num_candidates) == ("b", 20, 2)
    assert chosen.score == 0.2 and chosen.regret == pytest.approx(0.5)
    assert chosen.test_score == tests["b"]
    assert chosen.test_regret == pytest.approx(max(tests.values()) - tests["b"])
    assert (among["im"].method, among["im"].step) == ("b", 10)
    assert among["im"].test_score is None, "other weights than those that were kept"
    assert among["oracle"].regret == 0 and among["oracle"].best_method == "b"
    assert "last" not in among, "a step says nothing of one run against another"


def test_each_seed_is_judged_separately(tmp_path: Path, make_run: MakeRun) -> None:
    for seed in (0, 1):
        for method in ("a", "b"):
            make_run(tmp_path, method, seed)
    among = judged(tmp_path).among
    assert {(each.seed, each.num_candidates) for each in among} == {(0, 2), (1, 2)}


def test_only_second_phase_is_judged(tmp_path: Path, make_run: MakeRun) -> None:
    history = [line(10, 0.99, 0.9, 9.0), line(20, 0.5, 0.3, 1.0, "adapt")]
    make_run(tmp_path, history=history)
    within = {each.rule: each for each in judged(tmp_path).within}
    assert within["source_val"].score == 0.3 and within["oracle"].score == 0.3


def test_training_kept_by_two_rules_is_judged_once(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, history=A)
    make_run(tmp_path, history=A, rule="last")
    found = judged(tmp_path)
    assert found.num_runs == 1 and found.within[0].num_runs == 1


def test_trainings_without_oracle_are_counted(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "a", history=A)
    make_run(tmp_path, "b", history=[line(20, 0.8, None, 2.0)], oracle=False)
    found = judged(tmp_path)
    assert (found.num_runs, found.num_without) == (1, 1)


def test_directions_on_other_images_are_judged_separately(
    tmp_path: Path, make_run: MakeRun
) -> None:
    make_run(tmp_path, "a")
    make_run(tmp_path, "a", versions={"away": "of another year"})
    assert {each.num_candidates for each in judged(tmp_path).among} == {1}
