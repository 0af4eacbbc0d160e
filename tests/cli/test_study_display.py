"""Without a terminal, a study writes a line at least every half minute."""

from pathlib import Path
from typing import Any

import pytest

from hf_wbc.cli.study_display import StudyDisplay, print_ending
from hf_wbc.config import TrainConfig
from hf_wbc.study.plan import Estimate, plan
from hf_wbc.study.progress import StudyProgress
from hf_wbc.study.runner import Event


def test_progress_line_shows_percent_rate_time_left_and_running(
    laboratories: tuple[str, str], tiny_model: str, tmp_path: Path, capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    config = TrainConfig(sources=laboratories[:1], model=tiny_model, steps=100, batch_size=8)
    runs = plan([config.replace(seed=seed) for seed in range(3)], tmp_path, tmp_path)
    progress = StudyProgress(runs, runs, [Estimate(50.0, "method")] * 3, 1)
    display = StudyDisplay(progress)
    display.on_event(Event("started", 0))
    display.on_event(Event("step", 0, step=0))
    capsys.readouterr()
    clock[0] = 29.0
    display.on_event(Event("tick"))
    assert not capsys.readouterr().err
    clock[0] = 30.0
    display.on_event(Event("step", 0, step=60))
    line = capsys.readouterr().err
    assert line.startswith("[0/3]  20% done, 2.0 steps per second, about 2 min left, running: ")
    assert runs[0].name in line and "60/100" in line
    display.on_event(Event("tick"))
    assert not capsys.readouterr().err


def test_shared_reason_is_printed_once(
    laboratories: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig(sources=laboratories[:1], model=str(tmp_path / "nowhere"))
    runs = plan([config.replace(seed=seed) for seed in range(3)], tmp_path, tmp_path)
    print_ending(tmp_path, StudyProgress(runs, [], [], 1))
    said = capsys.readouterr().out
    assert said.count("nowhere") == 1 and "refused  3 runs: " in said
    assert [line.strip() for line in said.splitlines() if line.startswith("    ")] == [
        run.name for run in runs
    ]
