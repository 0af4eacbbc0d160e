"""A published model has a valid result file for each benchmark that it was scored on."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from hf_wbc.hub.benchmark import check_results
from hf_wbc.hub.publication import parse_destination, read_bytes
from hf_wbc.hub.publish_model import model_publication

PATH = ".eval_results/lab--wbc-lab-b.yaml"
COMMIT = "a" * 40


def publication(run: Path, labs: Any, **changes: Any) -> Mapping[str, Any]:
    """Return the files of a run that was scored on lab_b from the Hub."""
    record = json.loads((run / "record.json").read_text())
    for role in ("sources", "target", "held_out"):
        for domain in record[role]:
            if domain["name"] == "lab_b":
                domain |= {"ref": "lab/wbc-lab-b", "revision": COMMIT}
    (run / "record.json").write_text(json.dumps(record | changes))
    return model_publication(run, parse_destination("lab/wbc-vit", "model"), labs).files


@pytest.fixture
def run(runs: Mapping[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs["vit"], tmp_path / "run"))


def test_result_file_is_valid_and_states_the_recorded_score(run: Path, labs: Any) -> None:
    files = publication(run, labs)
    assert [path for path in files if path.startswith(".eval_results/")] == [PATH]
    values = yaml.safe_load(read_bytes(files[PATH]))
    check_results(values, PATH)
    (entry,) = parse_eval_result_entries(values)
    assert (entry.dataset_id, entry.task_id) == ("lab/wbc-lab-b", "lab_b")
    assert entry.dataset_revision == COMMIT
    scores = json.loads((run / "record.json").read_text())["results"]["lab_b"]["test"]
    assert entry.value == pytest.approx(scores["macro_f1"], abs=1e-6)


def test_weights_that_saw_target_labels_have_none(run: Path, labs: Any) -> None:
    record = json.loads((run / "record.json").read_text())
    selection = {**record["selection"], "sees": "target labels"}
    assert PATH not in publication(run, labs, selection=selection)
