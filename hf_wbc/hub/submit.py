"""Submit a model's score on a benchmark: a pull request to the model with a result file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_wbc.hub.benchmark import Benchmark, result_entry, results_path, results_yaml
from hf_wbc.hub.client import OnEvent, connect, request

__all__ = ["Submission", "require_hub_model", "submission", "submit"]


@dataclass(frozen=True)
class Submission:
    """A result file for a model on the Hub."""

    repo_id: str
    """The model, `org/name`."""
    path: str
    """Path of the file in the model's repository."""
    content: bytes
    title: str
    """Title of the pull request."""


def require_hub_model(model: str) -> str:
    """Return the repository of a model; ValueError if it is a folder or no repository's name."""
    repo_id = model.partition("@")[0]
    if Path(model).exists() or repo_id.count("/") != 1:
        raise ValueError(
            f"{model} is not a model on the Hub, org/name; publish it first with `hf-wbc publish "
            "model RUN --to org/name`"
        )
    return repo_id


def submission(
    model: str, benchmark: Benchmark, record: Mapping[str, Any], date: str | None = None
) -> Submission:
    """Build the result file of an evaluation.

    Args:
        model: The model, `org/name[@revision]`.
        benchmark: The dataset.
        record: Record of `hf_wbc.inference.evaluate.evaluate_model` on the benchmark.
        date: ISO date of the evaluation.

    Raises:
        ValueError: If the evaluation is not of the benchmark's test split and commit.
    """
    repo_id = require_hub_model(model)
    if record.get("kind") != "evaluation" or record["splits"] != ["test"]:
        raise ValueError("only an evaluation of the test split can be submitted")
    if record["data"]["revision"] != benchmark.revision:
        raise ValueError(
            f"the evaluation is of {record['data']['ref']} at {record['data']['revision']}, and "
            f"the benchmark is at {benchmark.revision}; evaluate the model again"
        )
    entry = result_entry(benchmark, record["scores"], date=date)
    return Submission(
        repo_id,
        results_path(benchmark.repo_id),
        results_yaml([entry]),
        f"Add the score on {benchmark.repo_id}: macro-F1 {entry['value']:.3f}",
    )


def submit(what: Submission, on_event: OnEvent) -> str:
    """Open the pull request, and return its address.

    Raises:
        ValueError: The model does not exist, or the token may not open pull requests.
        OSError: The Hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd

    api = connect()
    file = CommitOperationAdd(what.path, what.content)
    commit = request(
        "opening a pull request",
        lambda: api.create_commit(what.repo_id, [file], commit_message=what.title, create_pr=True),
        what.repo_id,
        on_event,
    )
    return str(commit.pr_url)
