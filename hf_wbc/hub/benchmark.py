"""Datasets as benchmarks on the Hub, and the result files of models.

A dataset with an `eval.yaml` is a benchmark: the Hub shows a leaderboard of the scores in the
`.eval_results/*.yaml` files of models (https://huggingface.co/docs/hub/eval-results). The value is
macro-F1 on the test split, as a fraction.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.data.schema import DEFAULT_CONFIG
from hf_wbc.text import MAX_YAML, parse_yaml

__all__ = [
    "CITATION",
    "EVAL_FILE",
    "FURTHER_MEASURES",
    "RESULTS_FOLDER",
    "SEPARATOR",
    "Benchmark",
    "check_benchmark",
    "check_results",
    "eval_yaml",
    "framework_entry",
    "read_benchmark",
    "result_entry",
    "results_path",
    "results_yaml",
]

EVAL_FILE = "eval.yaml"
RESULTS_FOLDER = ".eval_results"
FRAMEWORK = "hf-wbc"
SPLIT = "test"
SEPARATOR = "__"
"""Between the id of a dataset's first task and a further measure, in the id of that one's task."""
CITATION = """\
@misc{hf_wbc_benchmark,
  title = {hf_wbc benchmark: white blood cells across laboratories, corruptions, features,
           attributes and patients},
  author = "{The hf_wbc authors}",
  year = {2026},
  note = {Version 0.1.0}
}
"""
"""BibTeX of the benchmark; CITATION.cff holds the same."""
FURTHER_MEASURES = ("corruptions", "robustness_index", "attributes", "patients")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_ENTRY_KEYS = {
    "dataset", "value", "verifyToken", "date", "source", "evaluation_framework", "notes",
}  # fmt: skip
_DATASET_KEYS = {"id", "task_id", "revision"}
_SOURCE_KEYS = {"url", "name", "user", "org"}
_BENCHMARK_KEYS = {"name", "description", "evaluation_framework", "tasks"}


@dataclass(frozen=True)
class Benchmark:
    """A benchmark dataset on the Hub."""

    repo_id: str
    revision: str | None
    """Commit; None for a prepared folder."""
    task_id: str
    """Id of the task on the test split of the cropped images."""


def eval_yaml(name: str, title: str, num_images: int, num_classes: int) -> bytes:
    """Return the eval.yaml of a prepared dataset.

    Args:
        name: Name of the domain, which is the id of its task.
        title: Title of the source.
        num_images: Labeled test images.
        num_classes: Classes that occur among them.
    """
    values = {
        "name": f"{title}: white blood cells",
        "description": (
            f"Macro-F1 over {num_classes} classes of {num_images:,} single white blood cells. "
            "Score a model with `hf-wbc evaluate MODEL DATASET`, and submit it with `hf-wbc "
            "submit`. A research benchmark, not a medical device."
        ),
        "evaluation_framework": FRAMEWORK,
        "tasks": [
            {"id": each, "config": DEFAULT_CONFIG, "split": SPLIT}
            for each in (name, *(f"{name}{SEPARATOR}{measure}" for measure in FURTHER_MEASURES))
        ],
    }
    check_benchmark(values, EVAL_FILE)
    return _dump(values)


def check_benchmark(values: Any, where: str) -> None:
    """Raise ValueError unless values follow the published format of eval.yaml."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} is not a mapping")
    _require_text(values, ("name", "evaluation_framework"), where)
    _reject_others(values, _BENCHMARK_KEYS, where)
    tasks = values.get("tasks")
    if not isinstance(tasks, list) or not tasks:
        raise ValueError(f"{where} has no list of tasks")
    for task in tasks:
        if not isinstance(task, Mapping):
            raise ValueError(f"{where}: a task is {task!r}, not a mapping")
        _require_text(task, ("id",), f"{where}, tasks")


def result_entry(
    benchmark: Benchmark,
    scores: Mapping[str, Any],
    rule: str = "",
    date: str | None = None,
    remarks: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the entry of macro-F1 on the test split.

    Args:
        benchmark: The dataset.
        scores: Scores of `hf_wbc.evaluation.metrics.score`, with `intervals`.
        rule: What selected the weights; empty if it is unknown.
        date: ISO date of the evaluation; the Hub takes that of the commit if omitted.
        remarks: Further notes.
    """
    low, high = scores["intervals"]["macro_f1"]
    notes = [
        f"macro-F1 over {scores['num_classes']} classes, {scores['num_images']} images",
        f"95 % interval {low:.3f} to {high:.3f}",
    ]
    if scores.get("merge"):
        notes.append(f"merged {', '.join(scores['merge'])}")
    if scores.get("classes"):
        notes.append(f"only {', '.join(scores['classes'])}")
    if rule:
        notes.append(f"weights selected by {rule}")
    return framework_entry(benchmark, "", float(scores["macro_f1"]), [*notes, *remarks], date)


def framework_entry(
    benchmark: Benchmark, measure: str, value: float, notes: Sequence[str], date: str | None
) -> dict[str, Any]:
    """Return an entry of a result file.

    Args:
        benchmark: The dataset.
        measure: One of FURTHER_MEASURES, or "" for macro-F1.
        value: The score.
        notes: What is needed to read the value.
        date: ISO date of the evaluation; the Hub takes that of the commit if omitted.
    """
    task_id = f"{benchmark.task_id}{SEPARATOR}{measure}" if measure else benchmark.task_id
    return {
        "dataset": {
            "id": benchmark.repo_id,
            "task_id": task_id,
            **({"revision": benchmark.revision} if benchmark.revision else {}),
        },
        "value": round(value, 6),
        **({"date": date} if date else {}),
        "evaluation_framework": FRAMEWORK,
        "notes": "; ".join(notes),
    }  # fmt: skip


def results_path(repo_id: str) -> str:
    """Return the path of a model's result file for a dataset."""
    return f"{RESULTS_FOLDER}/{repo_id.replace('/', '--')}.yaml"


def results_yaml(entries: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a result file, after checking its entries."""
    values = [dict(each) for each in entries]
    check_results(values, RESULTS_FOLDER)
    return _dump(values)


def check_results(values: Any, where: str) -> None:
    """Raise ValueError unless values follow the published format of `.eval_results/*.yaml`."""
    if not isinstance(values, list) or not values:
        raise ValueError(f"{where} is not a list of results")
    for entry in values:
        if not isinstance(entry, Mapping):
            raise ValueError(f"{where}: an entry is {entry!r}, not a mapping")
        _reject_others(entry, _ENTRY_KEYS, where)
        dataset, value = entry.get("dataset"), entry.get("value")
        if not isinstance(dataset, Mapping):
            raise ValueError(f"{where}: an entry has no dataset")
        _require_text(dataset, ("id", "task_id"), f"{where}, dataset")
        _reject_others(dataset, _DATASET_KEYS, f"{where}, dataset")
        if not _REPO.fullmatch(dataset["id"]):
            raise ValueError(f"{where}: dataset id {dataset['id']!r} is not org/name")
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not abs(value) <= sys.float_info.max  # NaN is not
        ):
            raise ValueError(f"{where}: value is {value!r}, not a number")
        _check_date(entry.get("date"), where)
        if (source := entry.get("source")) is not None:
            _require_text(source, ("url",), f"{where}, source")
            _reject_others(source, _SOURCE_KEYS, f"{where}, source")


def read_benchmark(ref: str) -> Benchmark:
    """Read the benchmark of a Hub dataset `org/name[@revision]`.

    Raises:
        ValueError: If there is no such dataset, it has no eval.yaml, or the file is damaged or of
            another format.
    """
    repo_id, _, revision = ref.partition("@")
    if not _REPO.fullmatch(repo_id) or Path(ref).exists():
        raise ValueError(f"{ref} is not a dataset on the Hub, org/name; publish it first")
    try:
        folder = fetch_snapshot(repo_id, "dataset", revision or None, [EVAL_FILE])
    except ValueError as error:
        raise ValueError(f"{ref}: {error}") from error
    path = folder / EVAL_FILE
    if not path.is_file():
        raise ValueError(
            f"{ref} is not a benchmark: it has no {EVAL_FILE}; its owner can publish it again"
        )
    where = f"{ref}: {EVAL_FILE}"
    with path.open(encoding="utf-8", errors="replace") as file:
        values = parse_yaml(file.read(MAX_YAML + 1), where)
    check_benchmark(values, where)
    for task in values["tasks"]:
        if (task.get("config", DEFAULT_CONFIG), task.get("split", SPLIT)) == (
            DEFAULT_CONFIG, SPLIT,
        ):  # fmt: skip
            return Benchmark(repo_id, folder.name, str(task["id"]))
    raise ValueError(f"{where} has no task on the {SPLIT} split of {DEFAULT_CONFIG}")


def _dump(values: Any) -> bytes:
    text: str = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    return text.encode()


def _require_text(values: Any, names: Sequence[str], where: str) -> None:
    for name in names:
        found = values.get(name) if isinstance(values, Mapping) else None
        if not isinstance(found, str) or not found:
            raise ValueError(f"{where} has no {name}, or it is not text: {found!r}")


def _reject_others(values: Mapping[str, Any], known: set[str], where: str) -> None:
    if others := sorted(map(str, set(values) - known)):
        raise ValueError(
            f"{where} has {', '.join(others)}, which this version of the format does not know; "
            f"known are {', '.join(sorted(known))}"
        )


def _check_date(date: Any, where: str) -> None:
    if date is None:
        return
    try:
        datetime.fromisoformat(str(date))
    except ValueError:
        raise ValueError(f"{where}: date {date!r} is not an ISO date") from None
