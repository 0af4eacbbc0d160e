"""A task of a study: what a worker or cluster job executes, and its outcome.

This module imports nothing heavy: a cluster job must handle signals soon after it starts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hf_wbc.records import RunFolder, remove

if TYPE_CHECKING:
    from hf_wbc.study.plan import PlannedRun

__all__ = [
    "LOG_FOLDER",
    "Outcome",
    "Task",
    "keep_failure",
    "make_task",
    "parse_launch",
    "pending_tasks",
    "record_refusals",
]

LOG_FOLDER = ".study"
"""Folder beside the run folders for the output of the runs."""
LOG_TAIL_LINES = 40
"""Number of last log lines that are stored with a failure."""
Ending = Literal["finished", "failed", "killed", "busy"]


@dataclass(frozen=True)
class Task:
    """A run to execute; it can be pickled and sent to other processes and machines."""

    config: Mapping[str, Any]
    """The configuration as the user specified it."""
    identity: Mapping[str, Any]
    """Determines the name of the run's folder; empty if the configuration was refused."""
    folder: Path
    """The run's folder."""
    features: Path
    """Folder for extracted features."""
    log: Path
    """File for the run's output."""
    launch: tuple[str, ...] | None = None
    """Arguments of `accelerate launch`; None trains in the process that executes the task."""


@dataclass(frozen=True)
class Outcome:
    """How a task ended, and why."""

    ending: Ending
    reason: str = ""


def pending_tasks(runs: Sequence["PlannedRun"], retry: bool) -> list["PlannedRun"]:
    """Return the runs to execute: new and unfinished ones, and failed ones if `retry`."""
    states = {"new", "unfinished", *(["failed"] if retry else [])}
    return [run for run in runs if run.state in states]


def make_task(run: "PlannedRun", features: Path, launch: Sequence[str] | None = None) -> Task:
    """Create the task of a planned run.

    Args:
        run: The planned run.
        features: Folder for extracted features.
        launch: Arguments of `accelerate launch`; None trains in the process that executes the task.
    """
    root = run.folder.path.parent
    return Task(
        config=run.requested.to_dict(),
        identity=run.identity,
        folder=run.folder.path,
        features=features,
        log=root / LOG_FOLDER / f"{run.folder.path.name}.log",
        launch=None if launch is None else tuple(launch),
    )


def keep_failure(task: Task, reason: str, *, trace: str = "", killed: bool = False) -> None:
    """Write the reason of a failure to the run's folder, with the last lines of its log."""
    log = task.log.read_text(encoding="utf-8", errors="replace") if task.log.exists() else ""
    tail = "\n".join(log.splitlines()[-LOG_TAIL_LINES:])
    failure = {"what": reason, "killed": killed, "traceback": trace, "log": tail}
    RunFolder(task.folder).write_failure(task.config, task.identity, failure)


def make_tasks(
    runs: Sequence["PlannedRun"],
    pending: Sequence["PlannedRun"],
    cache: Path,
    launch: tuple[str, ...] | None = None,
) -> list[Task]:
    """Return a task for each pending run, and record which of all runs are refused."""
    record_refusals(runs, cache)
    return [make_task(run, cache, launch) for run in pending]


def record_refusals(runs: Sequence["PlannedRun"], features: Path) -> None:
    """Record why runs are refused, and remove earlier refusals that no longer apply."""
    from hf_wbc.study.plan import refused_folder

    for run in runs:
        if run.state == "refused":
            keep_failure(make_task(run, features), run.failure)
        else:
            remove(refused_folder(run.folder.path.parent, run.requested).path)


def parse_launch(settings: Sequence[str] | None) -> tuple[tuple[str, ...] | None, int]:
    """Return the arguments of `accelerate launch`, and the number of processes that it starts.

    Args:
        settings: As on the command line, with or without leading dashes; None does not launch.

    Raises:
        ValueError: If the number of processes is missing; it is part of a run's identity.

    Examples:
        >>> parse_launch(["multi_gpu", "num_processes=4"])
        (('--multi_gpu', '--num_processes=4'), 4)
    """
    if settings is None:
        return None, 1
    arguments = tuple(f"--{word.lstrip('-')}" for word in settings)
    for argument in arguments:
        name, _, value = argument.replace("-", "_").partition("=")
        if name == "__num_processes" and value.isdecimal() and int(value) > 0:
            return arguments, int(value)
    raise ValueError(
        f"--launch {' '.join(settings)} does not set the number of processes; add "
        "num_processes=NUMBER"
    )
