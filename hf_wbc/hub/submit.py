"""Submit a model's results on a benchmark: one pull request with a result file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hf_wbc.hub.benchmark import Benchmark, results_path, results_yaml
from hf_wbc.hub.client import OnEvent, connect, request
from hf_wbc.hub.result_entries import record_entries

__all__ = ["PullRequestTo", "Submission", "require_hub_model", "submission", "submit"]

PullRequestTo = Literal["dataset", "model"]


@dataclass(frozen=True)
class Submission:
    """A result file of a model on the Hub."""

    repo_id: str
    """The repository that gets the file, `org/name`."""
    repo_type: PullRequestTo
    path: str
    """Path of the file in the repository."""
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
    model: str,
    benchmarks: Mapping[str, Benchmark],
    records: Sequence[Mapping[str, Any]],
    revision: str,
    date: str | None = None,
    to: PullRequestTo = "dataset",
) -> Submission:
    """Build the result file of a model.

    Args:
        model: The model, `org/name[@revision]`.
        benchmarks: The datasets by name of the domain; the first one has the leaderboard.
        records: Records of `hf_wbc.inference.benchmark_scores.measure_model` and others; see
            `hf_wbc.hub.result_entries.record_entries`.
        revision: Digest of the model's weights.
        date: ISO date of the measurements.
        to: Whose repository gets the file: the dataset's, for its leaderboard, or the model's,
            where the Hub shows it.

    Raises:
        ValueError: If a record is not of this model and these datasets.
    """
    repo_id = require_hub_model(model)
    first = next(iter(benchmarks.values()))
    entries = record_entries(records, benchmarks, revision, date)
    content, value = results_yaml(entries), entries[0]["value"]
    if to == "model":
        title = f"Add the score on {first.repo_id}: macro-F1 {value:.3f}"
        return Submission(repo_id, "model", results_path(first.repo_id), content, title)
    title = f"Add the result of {repo_id}: macro-F1 {value:.3f}"
    return Submission(first.repo_id, "dataset", results_path(repo_id), content, title)


def submit(what: Submission, on_event: OnEvent) -> str:
    """Open the pull request, and return its address.

    Raises:
        ValueError: The repository does not exist, or the token may not open pull requests.
        OSError: The Hub cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd

    api = connect()
    file = CommitOperationAdd(what.path, what.content)

    def create() -> Any:
        return api.create_commit(
            what.repo_id, [file], commit_message=what.title, repo_type=what.repo_type,
            create_pr=True,
        )  # fmt: skip

    commit = request("opening a pull request", create, what.repo_id, on_event)
    return str(commit.pr_url)
