"""How much features reveal the laboratory, averaged over seeds; damaged files are reported."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_wbc.audit.representation import robustness_index
from hf_wbc.cli.main import main
from hf_wbc.comparison.collect import Problem, collect
from hf_wbc.comparison.compare import compare
from hf_wbc.comparison.export import flat_tables
from hf_wbc.comparison.laboratory_share import (
    LaboratoryShare,
    laboratory_shares,
    read_run_features,
)
from hf_wbc.comparison.result_table import result_rows
from hf_wbc.comparison.score_sections import optional_sections
from hf_wbc.records import RunFolder

MakeRun = Callable[..., Path]


def give_features(run: Path, laboratory: float) -> None:
    """Overwrite a run's features by its labels, with an offset for the laboratory."""
    folder = RunFolder(run)
    predictions, keys = pq.read_table(folder.predictions), ["domain", "split", "image_id"]
    rng = np.random.default_rng(0)
    labels = predictions["label"].to_numpy()
    away = np.array(predictions["domain"].to_pylist()) == "away"
    values = np.eye(12)[labels] * 2 + rng.normal(size=(len(labels), 12)) * 0.4
    values[:, 11] += laboratory * (2 * away - 1)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(values.astype("f4").ravel()), 12)
    table = predictions.select(keys).append_column("features", fixed)
    pq.write_table(table, folder.features)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_run: MakeRun) -> Path:
    """Write two methods with two seeds; one has the laboratory in its features."""
    root = tmp_path_factory.mktemp("runs")
    for method, laboratory in (("source_only", 4.0), ("coral", 0.0)):
        for seed in (0, 1):
            give_features(make_run(root, method, seed), laboratory)
    return root


Shares = tuple[tuple[LaboratoryShare, ...], list[Problem]]


@pytest.fixture(scope="module")
def measured(root: Path) -> Shares:
    """Measure all runs once, after one of them was damaged."""
    collection = collect([root])
    victim = next(run for run in collection.runs if (run.method, run.seed) == ("coral", 1))
    RunFolder(victim.path).features.write_bytes(b"PAR1")
    return laboratory_shares(result_rows(collection.runs))


@pytest.mark.slow
@pytest.mark.ci
def test_features_without_laboratory_have_higher_robustness_index(
    root: Path, measured: Shares
) -> None:
    by_name = {each.name: each for each in measured[0]}
    plain, aligned = by_name["source_only"], by_name["coral"]
    assert aligned.robustness_index > 0.9 > plain.robustness_index
    assert plain.laboratory_accuracy is not None and aligned.laboratory_accuracy is not None
    assert plain.laboratory_accuracy > 0.95 > aligned.laboratory_accuracy
    run = next(r for r in collect([root]).runs if (r.method, r.seed) == ("coral", 0))
    cells = read_run_features(run)
    own = robustness_index(cells.features, cells.labels, cells.domains, cells.groups)
    assert aligned.robustness_index == pytest.approx(own.value)


@pytest.mark.slow
@pytest.mark.ci
def test_damaged_features_are_reported_and_others_measured(measured: Shares) -> None:
    shares, problems = measured
    assert len(problems) == 1 and "features.parquet" in problems[0].what
    assert {each.name: each.num_runs for each in shares} == {"source_only": 2, "coral": 1}


@pytest.mark.slow
@pytest.mark.ci
def test_section_is_omitted_unless_measured(root: Path, measured: Shares) -> None:
    comparison = compare(collect([root]), num_resamples=10)
    assert not list(optional_sections(comparison))
    comparison = replace(comparison, laboratory_shares=measured[0])
    (section,) = optional_sections(comparison)
    assert section.table is not None and len(section.table.cells) == 2
    assert len(flat_tables(comparison)["laboratory_shares"]) == 2


def test_command_says_why_features_of_a_single_laboratory_are_not_measured(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "runs", target=None)
    words = ["compare", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--no-report"]
    assert main([*words, "--features"]) == 0
    assert "no run has test images of two laboratories" in capsys.readouterr().err
