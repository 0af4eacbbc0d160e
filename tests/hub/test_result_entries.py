"""Records of a model become entries of its result file; unrelated records are reported."""

from typing import Any

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from hf_wbc.hub.benchmark import Benchmark, results_yaml
from hf_wbc.hub.result_entries import HOME, MEASURES, record_entries, split_task

MODEL = {"name": "lab/model", "revision": "sha256:1", "exposed_to": ["home"]}
BENCHMARKS = {
    "home": Benchmark("lab/home", "a" * 40, "home"),
    "away": Benchmark("lab/away", "b" * 40, "away"),
}
SCORES = {
    "macro_f1": 0.5, "num_classes": 9, "num_images": 120, "intervals": {"macro_f1": [0.4, 0.6]},
}  # fmt: skip


def evaluation(name: str, **changes: Any) -> dict[str, Any]:
    data = {"name": name, "ref": f"lab/{name}", "revision": BENCHMARKS[name].revision}
    record = {"kind": "evaluation", "splits": ["test"], "model": MODEL, "data": data}
    return {**record, "scores": SCORES, **changes}


STRESS = {
    "kind": "stress", "model": MODEL, "data": {"name": "home", "split": "test", "num_cells": 40},
    "clean": {"macro_f1": 0.5}, "curves": {"noise": [], "jpeg": []},
    "summary": {"macro_f1": 0.3, "worst_corruption": {"name": "jpeg", "macro_f1": 0.2}},
}  # fmt: skip
REPRESENTATION = {
    "kind": "representation", "model": MODEL, "datasets": ["home", "away"], "merge": ["a=b"],
    "num_cells": 80, "index": {"value": 0.7, "k": 5, "support": 0.9},
}  # fmt: skip
ATTRIBUTES = {
    "kind": "attributes", "model": MODEL, "data": "home", "f1": {"size": 0.8, "shape": 0.6},
    "num_test": 50, "agreement": {"size": 0.8, "shape": 0.9}, "reliable": ["size"],
}  # fmt: skip
HEAD = {"num_folds": 5, "scores": {"auroc": 0.9}, "intervals": {"auroc": [0.8, 1.0]}}
PATIENTS = {
    "kind": "patients", "model": MODEL, "data": "home", "num_patients": 20,
    "heads": {"mean": HEAD, "attention": {**HEAD, "scores": {"auroc": 0.95}}},
}  # fmt: skip
EVERY = [
    evaluation("home"), evaluation("away"), STRESS, REPRESENTATION, ATTRIBUTES, PATIENTS,
]  # fmt: skip


def test_every_record_becomes_an_entry_parsed_by_hub_library() -> None:
    entries = record_entries(EVERY, BENCHMARKS, "sha256:1", "2026-11-30")
    parsed = parse_eval_result_entries(yaml.safe_load(results_yaml(entries)))
    assert [(each.task_id, each.value) for each in parsed] == [
        ("home", 0.5), ("away", 0.5), ("home__corruptions", 0.3),
        ("home__robustness_index", 0.7), ("home__attributes", 0.7), ("home__patients", 0.9),
    ]  # fmt: skip
    assert {split_task(each.task_id)[1] for each in parsed} == {"", *MEASURES}
    assert [HOME in (each.notes or "") for each in parsed[:2]] == [True, False]


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"kind": "training"}, "'training'"),
        ({**STRESS, "model": {"revision": "sha256:2"}}, "sha256:2"),
        ({**STRESS, "data": {"name": "third", "split": "test"}}, "third"),
        ({**STRESS, "data": {"name": "home", "split": "train"}}, "test split"),
        (evaluation("home", splits=["train", "test"]), "in training"),
        ({"kind": "patients"}, "damaged"),
        ({**PATIENTS, "heads": {"attention": HEAD}}, "damaged"),
        ({**PATIENTS, "heads": 3}, "damaged"),
        ({**REPRESENTATION, "datasets": []}, "damaged"),
        ({**ATTRIBUTES, "f1": []}, "damaged"),
        (evaluation("home", data={"name": "home", "ref": "", "revision": "c"}), "again"),
        (evaluation("home", neighbors={"num_neighbors": 20}), "--neighbors"),
    ],
)  # fmt: skip
def test_unrelated_record_is_reported(record: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        record_entries([record], BENCHMARKS, "sha256:1")
