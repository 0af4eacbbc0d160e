"""Runs shown in detail are selected transparently: any use of target labels is stated."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hf_wbc.comparison.collect import collect
from hf_wbc.comparison.report.mistakes import ChosenRuns, choose_runs, values_of
from hf_wbc.comparison.result_table import result_rows

MakeRun = Callable[..., Path]


def history(im: float, source_val: float, other: float | None = None) -> list[dict[str, Any]]:
    """Return two evaluations; every rule prefers the first, but the second was kept."""
    rules = {"im": im} if other is None else {"im": im, "snd": other}
    return [
        {
            "step": step,
            "phase": "fit",
            "loss": {"loss": 1.0},
            "source_val": {"home": {"macro_f1": value}},
            "unlabeled": {"away": found},
            "oracle": {"away": {"macro_f1": 0.5}},
        }
        for step, value, found in ((10, 1.0, {"im": 99.0, "snd": 99.0}), (20, source_val, rules))
    ]


def chosen(root: Path) -> dict[str, ChosenRuns]:
    found = [row for row in result_rows(collect([root]).runs) if row.setting.is_headline]
    return {each.row.method: each for each in choose_runs(found, "source_only")}


def test_first_by_mean_rank_of_kept_weights_is_chosen(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "source_only", history=history(0.0, 0.5, 0.0), skill=0.5)
    make_run(tmp_path, "dann", history=history(3.0, 0.6, 3.0), skill=0.3)
    make_run(tmp_path, "coral", history=history(2.0, 0.9, 2.0), skill=0.2)
    make_run(tmp_path, "mcc", history=history(1.0, 0.7, 1.0), skill=0.9)
    found = chosen(tmp_path)
    assert list(found)[:3] == ["source_only", "dann", "coral"]
    assert found["dann"].why == (
        "first of 4 by the mean rank over 2 rules that see target images without labels",
    )
    assert found["coral"].why[1] == "highest macro-F1 on the sources' validation images"
    assert not found["coral"].by_labels


def test_best_and_worst_are_chosen_and_marked_as_using_labels(
    tmp_path: Path, make_run: MakeRun
) -> None:
    for method, skill, im in (
        ("source_only", 0.5, 3.0),
        ("dann", 0.4, 4.0),
        ("mcc", 0.9, 1.0),
        ("bnm", 0.1, 2.0),
    ):
        make_run(tmp_path, method, history=history(im, im / 5), skill=skill)
    found = chosen(tmp_path)
    assert found["mcc"].by_labels and "target labels" in found["mcc"].why[0]
    assert found["bnm"].by_labels and "lowest" in found["bnm"].why[0]
    assert not found["source_only"].by_labels


def test_lowest_seed_is_chosen_regardless_of_score(tmp_path: Path, make_run: MakeRun) -> None:
    for seed, skill in ((2, 0.9), (1, 0.2), (3, 0.5)):
        make_run(tmp_path, seed=seed, skill=skill)
    (found,) = chosen(tmp_path).values()
    assert found.run.seed == 1
    assert found.why == ("the baseline",)


def test_reasons_do_not_mention_target_without_one(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "source_only", target=None)
    make_run(tmp_path, "irm", target=None)
    assert not any("target" in why for each in chosen(tmp_path).values() for why in each.why)


def test_values_are_those_of_the_kept_step(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, history=history(3.0, 0.6), kept_step=20)
    (run,) = collect([tmp_path]).runs
    assert values_of(run)["im"] == 3.0


def test_weights_selected_by_target_labels_are_not_chosen(
    tmp_path: Path, make_run: MakeRun
) -> None:
    make_run(tmp_path, "source_only", history=history(0.0, 0.5), skill=0.2)
    make_run(tmp_path, "dann", rule="oracle", history=history(9.0, 0.9), skill=0.9)
    assert list(chosen(tmp_path)) == ["source_only"]
