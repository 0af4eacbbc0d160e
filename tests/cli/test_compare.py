"""`hf-wbc compare`: its output for real trained runs."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hf_wbc.cli.main import main
from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.record_versions import RECORD_VERSION
from hf_wbc.records import RunFolder

pytestmark = pytest.mark.usefixtures("flat_maps")


@pytest.fixture(scope="module")
def runs(
    laboratories: tuple[str, str], tiny_model: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Train three methods with two seeds, from home to away."""
    root, cache = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("cache")
    config = TrainConfig(
        sources=laboratories[:1],
        target=laboratories[1:],
        model=tiny_model,
        inputs="features",
        steps=4,
        batch_size=16,
        eval_steps=2,
        oracle=True,
    )
    for method in ("source_only", "coral", "shot"):
        for seed in (0, 1):
            run(config.replace(method=method, seed=seed), root, cache)
    return root


@pytest.mark.slow
@pytest.mark.ci
def test_tables_match_records_of_trained_runs(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "comparison"
    assert main(["compare", str(runs), "--out", str(out), "--resamples", "100"]) == 0
    shown = capsys.readouterr().out
    assert "toy_a" not in shown and "home → away" in shown and "shot" in shown
    rows = [
        row
        for row in pq.read_table(out / "rows.parquet").to_pylist()
        if (row["role"], row["split"]) == ("target", "test")
    ]
    assert {row["method"] for row in rows} == {"source_only", "coral", "shot"}
    for row in rows:
        records = [RunFolder(runs / name).read_record() for name in row["runs"].split()]
        scores = [record["results"]["away"]["test"]["macro_f1"] for record in records]
        assert len(scores) == row["num_seeds"] == 2
        assert row["macro_f1"] == pytest.approx(sum(scores) / 2)
    assert not (out / "problems.csv").exists()
    assert pq.read_table(out / "differences.parquet").num_rows == 2 + 3
    assert "None: every run folder is in the tables." in (out / "comparison.md").read_text()


@pytest.mark.slow
@pytest.mark.ci
def test_runs_of_other_versions_are_reported(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = tmp_path / "newer"
    newer.mkdir()
    record = json.loads(next(runs.glob("*/record.json")).read_text())
    (newer / "config.json").write_text(json.dumps({"config": {}, "identity": {}}))
    (newer / "record.json").write_text(json.dumps({**record, "version": RECORD_VERSION + 1}))
    assert main(["compare", str(runs), str(newer), "--out", str(tmp_path / "out")]) == 0
    assert "of another version" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.ci
def test_errors_name_the_remedy(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for arguments, words in (
        ([str(tmp_path / "nowhere")], "is not a folder"),
        ([], "no folders given"),
        ([str(runs), "--out", str(tmp_path)], "choose another folder"),
        ([str(runs), "--baseline", "nope"], "choose from coral, shot, source_only"),
        ([str(runs), "--resamples", "1"], "must be at least 2"),
    ):
        out = [] if "--out" in arguments else ["--out", str(tmp_path / "out")]
        assert main(["compare", *arguments, *out]) == 1
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.ci
def test_concurrent_comparison_into_same_folder_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hf_wbc.file_lock import lock_output

    out = tmp_path / "comparison"
    with lock_output(out):
        assert main(["compare", str(tmp_path), "--out", str(out)]) == 1
    assert f"another command is writing {out}" in capsys.readouterr().err
