"""Further scores follow from the predictions of runs, over images or patients."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import cohen_kappa_score, matthews_corrcoef, roc_auc_score

from hf_wbc.comparison.collect import collect
from hf_wbc.comparison.compare import compare
from hf_wbc.comparison.export import flat_tables
from hf_wbc.comparison.further_scores import further_scores
from hf_wbc.comparison.result_table import result_rows
from hf_wbc.comparison.score_sections import optional_sections
from hf_wbc.records import RunFolder
from hf_wbc.taxonomy import NAMES

MakeRun = Callable[..., Path]


def test_further_scores_match_sklearn_averaged_over_seeds(
    tmp_path: Path, make_run: MakeRun
) -> None:
    for seed in (0, 1):
        make_run(tmp_path, seed=seed, skill=0.6)
    collection = collect([tmp_path])
    (found,), problems = further_scores(result_rows(collection.runs))
    assert not problems and found.num_runs == 2 and found.unit == "image"
    expected: dict[str, list[float]] = {"mcc": [], "kappa": [], "auroc_ovr": []}
    for run in collection.runs:
        table = pq.read_table(RunFolder(run.path).predictions)
        rows = [row for row in table.to_pylist() if row["domain"] == "away"]
        true = np.array([row["label"] for row in rows])
        pair = (true, [row["predicted"] for row in rows])
        expected["mcc"].append(matthews_corrcoef(*pair))
        expected["kappa"].append(cohen_kappa_score(*pair))
        areas = [
            roc_auc_score(true == each, [row[f"p_{NAMES[each]}"] for row in rows])
            for each in np.unique(true)
        ]
        expected["auroc_ovr"].append(float(np.mean(areas)))
    for name, values in expected.items():
        assert found.scores[name] == pytest.approx(np.mean(values))
        low, high = found.intervals[name]
        assert low < found.scores[name] < high
    comparison = compare(collection, num_resamples=10)
    assert not list(optional_sections(comparison))
    comparison = replace(comparison, further_scores=(found,))
    (section,) = optional_sections(comparison)
    assert section.table is not None and "[" in section.table.cells[0][4]
    (row,) = flat_tables(comparison)["further_scores"]
    assert row["mcc_low"] < row["mcc"] < row["mcc_high"]


def test_known_patients_are_resampled(tmp_path: Path, make_run: MakeRun) -> None:
    num = 60
    make_run(tmp_path, groups=lambda domain: [f"{domain}_{i % 4}" for i in range(num)])
    collection = collect([tmp_path])
    labels = pq.read_table(RunFolder(collection.runs[0].path).predictions)["label"]
    assert len(labels) % num == 0
    (found,), _ = further_scores(result_rows(collection.runs))
    assert found.unit == "group"


def test_run_without_probabilities_is_a_problem(tmp_path: Path, make_run: MakeRun) -> None:
    path = RunFolder(make_run(tmp_path)).predictions
    pq.write_table(pq.read_table(path).drop_columns(["p_monocyte"]), path)
    found, problems = further_scores(result_rows(collect([tmp_path]).runs))
    assert not found and len(problems) == 1 and "p_monocyte" in problems[0].what
