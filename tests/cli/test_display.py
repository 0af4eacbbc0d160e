"""Without a terminal, training writes a line at least every half minute, at every stage."""

import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hf_wbc.cli.main import main
from hf_wbc.progress_lines import progress_lines
from hf_wbc.records import RunFolder


def test_train_logs_stages_steps_rate_and_loss(
    laboratories: tuple[str, str], tiny_model: str, tmp_path: Path, capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    often = partial(progress_lines, interval_s=0.001)
    monkeypatch.setattr("hf_wbc.cli.display.progress_lines", often)
    monkeypatch.setattr(
        "datasets.config.HF_DATASETS_CACHE", tmp_path / "cache"
    )  # nothing is read yet
    words = f"--sources {laboratories[0]} --target {laboratories[1]} --model {tiny_model}".split()
    steps = ["--steps", "60", "--batch-size", "8", "--eval-steps", "20"]
    assert main(["train", *words, *steps, "--output-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert re.search(r"load model and datasets: 0 of 1 .*not known", said)
    assert re.search(r"read home train: 44 of 44", said)
    line = r"source_only: \d+ of 60 \(\d+%\), [\d.]+ per second, .* left, loss \d"
    assert re.search(line, said), said
    assert re.search(r"step 20  loss \d.*macro-F1 home", said)
    assert re.search(r"predict away test: 22 of 22", said)


def test_early_stopping_ends_training_progress(
    laboratories: tuple[str, str], tiny_model: str, tmp_path: Path, capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    often = partial(progress_lines, interval_s=0.001)
    monkeypatch.setattr("hf_wbc.cli.display.progress_lines", often)
    words = f"--sources {laboratories[0]} --model {tiny_model} --output-dir {tmp_path}".split()
    words += ["--batch-size", "8", "--eval-steps", "2", "--learning-rate", "0", "--patience", "2"]
    assert main(["train", *words, "--steps", "100"]) == 0
    said = capsys.readouterr().err
    after = said[said.index("predict home") :]
    assert "source_only: 6 of 100" in said and "source_only" not in after


def test_history_grows_with_steps(
    laboratories: tuple[str, str], tiny_model: str, tmp_path: Path
) -> None:
    words = f"--sources {laboratories[0]} --model {tiny_model} --output-dir {tmp_path}".split()
    steps = ["--steps", "60", "--batch-size", "8", "--eval-steps", "40"]
    assert main(["train", *words, *steps]) == 0
    (folder,) = (RunFolder(path.parent) for path in tmp_path.glob("*/history.jsonl"))
    lines = folder.history.read_text(encoding="utf-8").splitlines()
    assert [int(re.search(r'"step": (\d+)', line)[1]) for line in lines] == [  # type: ignore[index]
        4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60
    ]  # fmt: skip
    assert all('"loss": {"loss": ' in line for line in lines)
    evaluations = folder.read_history()
    assert [row["step"] for row in evaluations] == [40, 60]
    assert folder.read_record()["history"] == evaluations
