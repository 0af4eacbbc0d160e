"""`hf-wbc study` from the command line: messages, exit codes, and output files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hf_wbc.cli import toy
from hf_wbc.cli.main import main
from hf_wbc.config import TrainConfig
from hf_wbc.records import read_json


@pytest.fixture
def grid(laboratories: tuple[str, str], tiny_model: str, tmp_path: Path) -> str:
    """Write a study with a valid run, one that fails in training, and one that is invalid."""
    config = TrainConfig(
        sources=laboratories[:1],
        target=laboratories[1:],
        model=tiny_model,
        steps=4,
        batch_size=8,
        eval_steps=2,
    )
    configs = [
        config,
        config.replace(learning_rate=1e30, max_grad_norm=0.0),
        config.replace(method="corall"),
    ]
    path = tmp_path / "grid.py"
    path.write_text(
        "from hf_wbc.config import TrainConfig\n"
        "def study(num: int = 3):\n"
        f"    return [TrainConfig.from_dict(c) for c in {[c.to_dict() for c in configs]}][:num]\n"
    )
    return str(path)


@pytest.mark.parametrize(
    "start", ["fork", pytest.param("spawn", marks=(pytest.mark.slow, pytest.mark.ci))]
)
@pytest.mark.slow
@pytest.mark.ci
def test_study_finishes_valid_runs_and_reports_the_others(
    grid: str,
    start: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = tmp_path / "runs"
    command = ["study", grid, "--out", str(runs), "--cache", str(tmp_path), "--workers", "1"]
    assert main([*command, "--dry-run"]) == 0
    assert not runs.exists()
    said = capsys.readouterr().out
    assert "0 of 3 runs are finished" in said and "unknown: 2 runs" in said

    monkeypatch.setattr("hf_wbc.study.worker.START", start)  # in practice, workers are spawned
    assert main(command) == 1
    out, progress = capsys.readouterr()
    assert "[1/3]  finished" in progress and "[2/3]  failed" in progress
    assert "1 of 3 runs are finished" in out
    assert "the loss at step" in out and "--retry" in out
    assert "did you mean 'coral'?" in out
    (finished,), failures = runs.glob("*/record.json"), list(runs.glob("*/failure.json"))
    assert len(failures) == 2 and all(str(path) in out.replace("\n", "") for path in failures)

    before = finished.stat().st_mtime_ns
    assert main(command) == 1, "what failed is told again"
    out, progress = capsys.readouterr()
    assert "the loss at step" in out and "started" not in progress
    assert main([*command, "--dry-run"]) == 0
    assert "1 finished, 1 failed" in capsys.readouterr().out

    monkeypatch.setattr("hf_wbc.study.worker.START", "fork")
    assert main([*command, "--retry"]) == 1
    assert "started" in capsys.readouterr().err
    assert finished.stat().st_mtime_ns == before
    assert main([*command, "--set", "num=1"]) == 0
    assert "1 of 1 runs are finished" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.ci
def test_toy_study_uses_existing_datasets(
    tmp_path: Path,
    make_domain: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`test_quickstart` covers drawing and preparing them with the same functions."""
    monkeypatch.setattr("hf_wbc.study.worker.START", "fork")
    names = ("toy_acevedo_20", "toy_matek_19")
    for seed, name in enumerate(names):
        make_domain(tmp_path / "toy" / "data" / name, name=name, seed=seed)
    command = [
        "study", "toy", "--out", str(tmp_path / "runs"), "--workers", "1",
        "--set", f"data={tmp_path / 'toy'}", "methods=source_only", "seeds=1", "steps=2",
    ]  # fmt: skip
    assert main(command) == 0
    assert "2 of 2 runs are finished" in capsys.readouterr().out
    records = [read_json(path) for path in (tmp_path / "runs").glob("*/record.json")]
    assert {record["target"][0]["name"] for record in records} == set(names)
    assert {path.name for path in (tmp_path / "toy").iterdir()} == {"data", "backbone"}


def test_toy_study_draws_missing_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(toy, "draw_toys", lambda out: {"acevedo_20": out, "mll_23": out})
    monkeypatch.setattr(toy, "prepare_toys", lambda archives, out: asked.append((archives, out)))
    toy.make_toy_study(tmp_path, ["toy_acevedo_20"], "backbone")
    assert asked == [({"acevedo_20": tmp_path / "archives"}, tmp_path / "data")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["toi"], "unknown study 'toi'; did you mean 'toy'?"),
        (["toy", "--set", "x=1"], "no parameter 'x'"),
        (["ceilings", "--launch", "multi_gpu"], "add num_processes=NUMBER"),
        (["ceilings", "--workers", "0"], "--workers is 0"),
        (["ceilings", "--slurm", "partition"], "write NAME=VALUE"),
        (["ceilings", "--slurm", "time=1:00:00"], "a whole number of minutes"),
    ],
)
def test_invalid_arguments_fail_before_any_work(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
