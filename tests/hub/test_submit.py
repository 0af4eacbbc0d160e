"""A published dataset is a benchmark, and anyone can submit a model's score by a pull request."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.hub_server import LoopbackHub

from hf_wbc.cli.main import main
from hf_wbc.hub.benchmark import EVAL_FILE, check_benchmark, check_results
from hf_wbc.shipped import shipped

RESULT = ".eval_results/lab--toy.yaml"
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


@pytest.mark.slow
@pytest.mark.ci
def test_external_model_joins_leaderboard_by_one_pull_request(
    benchmark: LoopbackHub, published: Callable[..., tuple[int, str]], tmp_path: Path,
    log_in: Callable[[str | None], None], capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    cells = benchmark.repo("dataset", "lab/cells")
    check_benchmark(yaml.safe_load(cells.content("main", EVAL_FILE)), EVAL_FILE)
    words = ["submit", "lab/toy", "--to", "lab/cells", "--out", str(tmp_path / "out")]
    assert main([*words, "--dry-run"]) == 0
    assert list(cells.refs("heads")) == ["main"]
    log_in("bob")  # not of the dataset's organization
    assert main(words) == 0
    assert capfd.readouterr().out.endswith("/datasets/lab/cells/discussions/1\n")
    assert RESULT not in cells.files("main")
    values = yaml.safe_load(cells.content("refs/pr/1", RESULT))
    check_results(values, RESULT)
    score, corrupted = values
    head = cells.refs("heads")["main"]
    assert score["dataset"] == {"id": "lab/cells", "task_id": "open_lab", "revision": head}
    assert corrupted["dataset"]["task_id"] == "open_lab__corruptions"
    assert 0 <= score["value"] <= 1

    log_in("alice")
    status, said = published("leaderboard", "lab/cells", "--to", "lab/board")
    assert status == 1 and "merge" in said
    cells.set_ref("heads", "main", cells.refs("heads")["refs/pr/1"])  # the owner merges
    status, said = published("leaderboard", "lab/cells", "--to", "lab/board")
    assert status == 0, said
    page = benchmark.repo("space", "lab/board").content("main", "index.html").decode()
    assert f"{benchmark.url}/lab/toy" in page and f"{score['value']:.3f}" in page


def test_pull_request_can_go_to_the_model_repository(
    benchmark: LoopbackHub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["submit", "lab/toy", "--to", "lab/cells", "--out", str(tmp_path / "out")]
    assert main([*words, "--stress-cells", "0", "--pull-request", "model"]) == 0
    assert capfd.readouterr().out.endswith("/lab/toy/discussions/1\n")
    path = ".eval_results/lab--cells.yaml"
    (entry,) = yaml.safe_load(benchmark.repo("model", "lab/toy").content("refs/pr/1", path))
    assert entry["dataset"]["task_id"] == "open_lab"


def test_model_with_other_labels_is_reported(
    benchmark: LoopbackHub, tiny_convnext: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import HfApi

    HfApi().create_repo("lab/foreign")
    HfApi().upload_folder(repo_id="lab/foreign", folder_path=tiny_convnext)
    words = ["submit", "lab/foreign", "--to", "lab/cells", "--out", str(tmp_path / "out")]
    assert main(words) == 1
    said = capfd.readouterr().err
    assert "lab/foreign" in said and "LABEL_0" in said


def test_record_of_patients_is_checked_before_anything_is_measured(
    benchmark: LoopbackHub, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["submit", "lab/toy", "--to", "lab/cells", "--out", str(tmp_path / "out")]
    record = tmp_path / "patients" / "record.json"
    other = {"kind": "patients", "model": {"revision": "0"}, "data": "open_lab", "heads": {}}
    for content, said in (
        (None, "record.json is missing"),
        ("[]", "not a JSON object"),
        ("{}", "not a result of `hf-wbc patients`"),
        (json.dumps({"kind": "patients"}), "damaged"),
        (json.dumps(other), "of a model with the digest 0"),
    ):
        if content is not None:
            record.parent.mkdir(exist_ok=True)
            record.write_text(content)
        assert main([*words, "--patients", str(record.parent)]) == 1
        assert said in capfd.readouterr().err
        assert not (tmp_path / "out").exists()


def test_missing_model_or_dataset_is_reported(
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
