"""A row averages only comparable runs."""

from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pyarrow.compute as pc
import pytest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from hf_wbc.comparison.collect import collect
from hf_wbc.comparison.result_table import ResultRow, result_rows
from hf_wbc.taxonomy import NAMES, Relation, relation

MakeRun = Callable[..., Path]


def headline(root: Path) -> list[ResultRow]:
    return [row for row in result_rows(collect([root]).runs) if row.setting.is_headline]


def test_scores_are_means_over_seeds(tmp_path: Path, make_run: MakeRun) -> None:
    for seed in (0, 1, 2):
        make_run(tmp_path, seed=seed)
    (row,) = headline(tmp_path)
    macro, right, balanced, far, by_class = [], [], [], [], []
    for run in row.runs:
        table = run.predictions()
        table = table.filter(
            pc.and_(pc.equal(table["domain"], "away"), pc.equal(table["split"], "test"))
        )
        y, p = table["label"].to_numpy(), table["predicted"].to_numpy()
        present = np.unique(y)
        macro.append(f1_score(y, p, labels=present, average="macro", zero_division=0))
        right.append(accuracy_score(y, p))
        balanced.append(recall_score(y, p, labels=present, average="macro"))
        far.append(
            np.mean([relation(a, b) == Relation.CROSS_LINEAGE for a, b in zip(y, p, strict=True)])
        )
        by_class.append(f1_score(y, p, labels=present, average=None, zero_division=0))
    assert row.macro_f1 == pytest.approx(mean(macro))
    assert row.spread == pytest.approx(stdev(macro))
    assert (row.accuracy, row.balanced_accuracy) == pytest.approx((mean(right), mean(balanced)))
    assert row.lineage_error == pytest.approx(mean(far))
    f1 = np.mean(by_class, axis=0)
    assert row.worst_f1 == pytest.approx(f1.min())
    assert row.worst_class == NAMES[present[f1.argmin()]]
    assert row.seeds == (0, 1, 2) and row.num_classes == 5
    assert row.hours == pytest.approx(3 * 3.6 / 3600) and row.peak_memory_bytes == 2**30


def test_single_seed_has_no_spread(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path)
    assert headline(tmp_path)[0].spread is None


@pytest.mark.parametrize(
    "other",
    [
        {"versions": {"away": "another"}},
        {"merge": ("neutrophil_banded=neutrophil_segmented",)},
        {"classes": ("basophil", "monocyte")},
        {"target": "elsewhere"},
    ],
)
def test_incomparable_runs_are_in_different_settings(
    tmp_path: Path, make_run: MakeRun, other: dict[str, object]
) -> None:
    make_run(tmp_path, "source_only")
    make_run(tmp_path, "coral", **other)
    assert len({row.setting for row in headline(tmp_path)}) == 2


def test_best_method_is_listed_first(tmp_path: Path, make_run: MakeRun) -> None:
    for method, skill in (("coral", 0.2), ("dann", 0.9), ("mcc", 0.5)):
        make_run(tmp_path, method, skill=skill)
    assert [row.method for row in headline(tmp_path)] == ["dann", "mcc", "coral"]


def test_rows_name_the_settings_that_differ(tmp_path: Path, make_run: MakeRun) -> None:
    for lr in (0.1, 0.2):
        for seed in (0, 1):
            make_run(tmp_path, "coral", seed=seed, learning_rate=lr)
    make_run(tmp_path, "source_only")
    found = headline(tmp_path)
    assert {row.name for row in found} == {
        "coral (learning_rate 0.1)",
        "coral (learning_rate 0.2)",
        "source_only",
    }
    assert {len(row.seeds) for row in found if row.method == "coral"} == {2}


def test_other_training_images_make_a_separate_row(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path)
    make_run(tmp_path, seed=1, versions={"home": "home of last year"})
    found = headline(tmp_path)
    assert len(found) == 2 and all("home data" in row.variant for row in found)


def test_another_rule_or_depth_of_training_makes_a_separate_row(
    tmp_path: Path, make_run: MakeRun
) -> None:
    make_run(tmp_path)
    make_run(tmp_path, rule="last")
    make_run(tmp_path, trainable="frozen")
    found = {(row.rule, row.trained) for row in headline(tmp_path)}
    assert found == {("source_val", "full"), ("last", "full"), ("source_val", "frozen")}


def test_randomly_initialized_networks_share_a_row_over_seeds(
    tmp_path: Path, make_run: MakeRun
) -> None:
    for seed in (0, 1):
        make_run(tmp_path, seed=seed, from_scratch=True)
    (row,) = headline(tmp_path)
    assert row.seeds == (0, 1)


def test_run_with_and_without_oracle_counts_once(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, oracle=True)
    make_run(tmp_path, oracle=False)
    (row,) = headline(tmp_path)
    assert row.seeds == (0,) and row.runs[0].config.eval.oracle


@pytest.mark.parametrize(
    ("exposure", "exposed_to", "exposed"),
    [
        ("ImageNet", (), "no"),
        ("ImageNet", ("away",), "yes"),
        ("ImageNet", ("home",), "yes"),
        ("ImageNet", ("elsewhere",), "no"),
        ("unknown", (), "maybe"),
        ("images of x with labels; before that: unknown", ("x",), "maybe"),
        ("unknown", ("away",), "yes"),
    ],
)
def test_backbone_exposed_to_the_laboratory_is_marked(
    tmp_path: Path, make_run: MakeRun, exposure: str, exposed_to: tuple[str, ...], exposed: str
) -> None:
    make_run(tmp_path, exposure=exposure, exposed_to=exposed_to)
    assert headline(tmp_path)[0].exposed == exposed


def test_source_test_images_are_the_headline_without_target(
    tmp_path: Path, make_run: MakeRun
) -> None:
    make_run(tmp_path, target=None)
    (row,) = headline(tmp_path)
    assert (row.domain, row.role, row.split) == ("home", "source", "test")


def test_every_scored_split_has_a_row(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path)
    found = {(row.role, row.split) for row in result_rows(collect([tmp_path]).runs)}
    assert found == {
        ("target", "test"), ("target", "transductive"), ("source", "test"),
        ("source", "validation"),
    }  # fmt: skip
