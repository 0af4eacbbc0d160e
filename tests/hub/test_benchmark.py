"""eval.yaml and result files follow the published format; deviations are reported."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from hf_wbc.hub.benchmark import (
    Benchmark,
    check_benchmark,
    check_results,
    eval_yaml,
    read_benchmark,
    result_entry,
    results_yaml,
)
from hf_wbc.hub.result_entries import MEASURES

SCORES = {
    "macro_f1": 0.5,
    "num_classes": 9,
    "num_images": 120,
    "intervals": {"macro_f1": [0.4, 0.6]},
    "merge": ["a=b"],
    "classes": [],
}
MINIMAL = {"dataset": {"id": "cais/hle", "task_id": "default"}, "value": 20.9}
"""The smallest entry of the documentation."""
FULL = {
    "dataset": {"id": "cais/hle", "task_id": "default", "revision": "55034"},
    "value": 20.9,
    "verifyToken": "ey",
    "date": "2025-01-15T10:30:00Z",
    "source": {"url": "https://huggingface.co/x", "name": "Eval traces", "user": "x"},
    "evaluation_framework": "hle",
    "notes": "no-tools",
}


def test_result_file_is_parsed_by_hub_library() -> None:
    from huggingface_hub import parse_eval_result_entries

    benchmark = Benchmark("lab/cells", "a" * 40, "open_lab")
    data = results_yaml([result_entry(benchmark, SCORES, "source_val", "2026-11-30")])
    (entry,) = parse_eval_result_entries(yaml.safe_load(data))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("lab/cells", "open_lab", 0.5)
    assert entry.dataset_revision == "a" * 40 and entry.date == "2026-11-30"
    assert "merged a=b" in entry.notes and "source_val" in entry.notes


def test_eval_yaml_has_the_documented_keys() -> None:
    values = yaml.safe_load(eval_yaml("open_lab", "Open lab", 1200, 9))
    check_benchmark(values, "eval.yaml")
    assert set(values) == {"name", "description", "evaluation_framework", "tasks"}
    assert values["tasks"][0] == {"id": "open_lab", "config": "cropped", "split": "test"}
    ids = [each["id"] for each in values["tasks"]]
    assert ids == ["open_lab", *(f"open_lab__{each}" for each in MEASURES)]


def test_documented_entries_are_valid() -> None:
    check_results([MINIMAL, FULL], "x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": "high"}, "value is 'high', not a number"),
        ({"value": float("nan")}, "value is nan"),
        ({"value": True}, "value is True"),
        ({"dataset": {"id": "hle", "task_id": "x"}}, "'hle' is not org/name"),
        ({"dataset": {"id": "cais/hle"}}, "has no task_id"),
        ({"dataset": None}, "has no dataset"),
        ({"date": "yesterday"}, "'yesterday' is not an ISO date"),
        ({"source": {"name": "x"}}, "source has no url"),
        ({"score": 1}, "has score, which this version of the format does not know"),
    ],
)
def test_invalid_result_entry_is_reported(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_results([{**MINIMAL, **change}], "file")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    "text",
    [
        BOMB + "name: *j\n", "[" * 30_000, "x" * 70_000, "a: !!timestamp x", "a: !!int ''",
        "a: !!bool maybe", "a: !!python/object/apply:os.system [true]", "a: 2025-13-45", "? {a: b}",
        "a: [", "\x00", "a: " + "9" * 5_000, "<<: 3",
    ],
)  # fmt: skip
def test_hostile_eval_yaml_is_rejected(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "eval.yaml").write_text(text)
    monkeypatch.setattr("hf_wbc.hub.benchmark.fetch_snapshot", lambda *_: tmp_path)
    with pytest.raises(ValueError, match=r"lab/set: eval\.yaml") as caught:
        read_benchmark("lab/set")
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "is not a mapping"),
        ({"name": "x", "evaluation_framework": "y"}, "no list of tasks"),
        ({"name": "x", "evaluation_framework": "y", "tasks": [{}]}, "tasks has no id"),
        ({"tasks": [{"id": "x"}]}, "has no name"),
    ],
)
def test_invalid_benchmark_is_reported(values: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_benchmark(values, "eval.yaml")
