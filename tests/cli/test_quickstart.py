"""The quickstart, from scratch to a model, in-domain and target scores, and figures."""

import json
import re
from pathlib import Path

import pytest
from transformers import pipeline

from hf_wbc.cli import quickstart
from hf_wbc.cli.main import main

pytestmark = pytest.mark.usefixtures("flat_maps")


def closing_scores(text: str) -> list[float]:
    """Parse the macro-F1 at home and away at the end of the output."""
    (sentence,) = re.findall(r"macro-F1 is (.*) \(toy cells\)", text)
    return [float(number) for number in re.findall(r"\d\.\d\d", sentence)]


@pytest.mark.slow  # prepares, audits and trains; the tests of each command are quick
@pytest.mark.ci
def test_quickstart_creates_all_files_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quickstart, "SIZE", "tiny")
    monkeypatch.setattr(quickstart, "STEPS", 2)
    out = tmp_path / "first"
    assert main(["quickstart", "--out", str(out)]) == 0
    (record,) = out.glob("runs/*/record.json")
    results = json.loads(record.read_text())["results"]
    printed = capsys.readouterr().out
    assert closing_scores(printed) == [
        round(entry["test"]["macro_f1"], 2) for entry in results.values()
    ]
    assert {path.name for path in (out / "pictures").iterdir()} == {
        "cells.png", *(f"confusion_{domain}.png" for domain in results)
    }  # fmt: skip
    assert (out / "audit" / "index.html").is_file()
    assert pipeline("image-classification", str(record.parent / "model"))
    assert main(["quickstart", "--out", str(out)]) == 0
    assert printed.splitlines()[-1] == capsys.readouterr().out.splitlines()[-1]


@pytest.mark.slow
def test_model_scores_well_in_domain_and_poorly_elsewhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quickstart", "--out", str(tmp_path / "first")]) == 0
    home, *away = closing_scores(capsys.readouterr().out)
    assert home > 0.7
    assert max(away) < home - 0.2
