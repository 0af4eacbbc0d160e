"""A published dataset is a benchmark, and a stranger submits a model's score by a pull request."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.hub_server import LoopbackHub

from hf_wbc.cli.main import main
from hf_wbc.hub.benchmark import EVAL_FILE, check_benchmark, check_results
from hf_wbc.shipped import shipped

RESULT = ".eval_results/lab--cells.yaml"
TOY = shipped("spaces/wbc/toy_model")


@pytest.fixture
def benchmark(
    hub: LoopbackHub,
    open_lab: Any,
    published: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> LoopbackHub:
    """Publish a dataset, and a model of the eleven classes."""
    from huggingface_hub import HfApi, constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # tested separately
    status, said = published(*open_lab.words, "--to", "lab/cells")
    assert status == 0, said
    api = HfApi()
    api.create_repo("lab/toy")
    api.upload_folder(repo_id="lab/toy", folder_path=TOY, ignore_patterns=["*.parquet"])
    return hub


def test_a_score_is_submitted_and_read_back(
    benchmark: LoopbackHub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cells, model = benchmark.repo("dataset", "lab/cells"), benchmark.repo("model", "lab/toy")
    check_benchmark(yaml.safe_load(cells.content("main", EVAL_FILE)), EVAL_FILE)
    words = ["submit", "lab/toy", "--to", "lab/cells", "--out", str(tmp_path / "out")]
    assert main([*words, "--dry-run"]) == 0
    assert list(model.refs("heads")) == ["main"]
    assert main(words) == 0
    assert capfd.readouterr().out.endswith("/lab/toy/discussions/1\n")
    assert RESULT not in model.files("main")
    values = yaml.safe_load(model.content("refs/pr/1", RESULT))
    check_results(values, RESULT)
    (entry,) = values
    head = cells.refs("heads")["main"]
    assert entry["dataset"] == {"id": "lab/cells", "task_id": "open_lab", "revision": head}
    assert 0 <= entry["value"] <= 1


def test_what_is_not_there_is_named(
    benchmark: LoopbackHub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for model, to, said in (
        ("lab/none", "lab/cells", "lab/none"),
        (str(TOY), "lab/cells", "is not a model on the Hub"),
        ("lab/toy", "lab/nothing", "lab/nothing"),
        ("lab/toy", "cells", "is not a dataset on the Hub"),
    ):
        assert main(["submit", model, "--to", to, "--out", str(tmp_path / "out")]) == 1
        assert said in capfd.readouterr().err
