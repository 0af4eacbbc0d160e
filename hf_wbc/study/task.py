"""A run that a study has to do, how it ended, and what is kept when it failed.

Nothing heavy is imported here: a job on a cluster must be ready for signals soon after it begins.

From a plan to tasks: which of its runs are to be done, and how each is handed out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hf_wbc.records import RunFolder, remove
from hf_wbc.study.plan import PlannedRun, refused_folder

LINES = 40
"""Of a log that are kept with a failure."""
Ending = Literal["finished", "failed", "killed", "busy"]


@dataclass(frozen=True)
class Task:
    """A run that is to be done; it crosses to other processes and machines."""

    config: Mapping[str, Any]
    """As it was asked for."""
    identity: Mapping[str, Any]
    folder: Path
    features: Path
    """Where embedded features are kept."""
    log: Path
    """What the run prints."""
    launch: tuple[str, ...] | None = None
    """Arguments of `accelerate launch`; None trains in the process that does the task."""


@dataclass(frozen=True)
class Outcome:
    """How a task ended, and why."""

    ending: Ending
    what: str = ""


def keep_failure(task: Task, what: str, *, trace: str = "", killed: bool = False) -> None:
    """Write why a run ended to its folder, with the end of what it printed."""
    log = task.log.read_text(errors="replace") if task.log.exists() else ""
    failure = {"what": what, "killed": killed, "traceback": trace, "log": _end(log)}
    RunFolder(task.folder).write_failure(task.config, task.identity, failure)


def _end(log: str) -> str:
    return "\n".join(log.splitlines()[-LINES:])


BESIDE = ".study"
"""Folder beside the run folders for what the runs print."""


def pending_tasks(runs: Sequence[PlannedRun], retry: bool) -> list[PlannedRun]:
    """The runs that are neither finished nor refused, nor failed unless those are tried again."""
    states = {"new", "unfinished", *(["failed"] if retry else [])}
    return [run for run in runs if run.state in states]


def make_task(run: PlannedRun, features: Path, launch: Sequence[str] | None = None) -> Task:
    """A run as it is handed to a worker or a cluster."""
    root = run.folder.path.parent
    return Task(
        config=run.asked.to_dict(),
        identity=run.identity,
        folder=run.folder.path,
        features=features,
        log=root / BESIDE / f"{run.folder.path.name}.log",
        launch=None if launch is None else tuple(launch),
    )


def record_refusals(runs: Sequence[PlannedRun], features: Path) -> None:
    """Keep why runs were refused beside the others, and forget refusals that hold no more."""
    for run in runs:
        if run.state == "refused":
            keep_failure(make_task(run, features), run.failure)
        else:
            remove(refused_folder(run.folder.path.parent, run.asked).path)


def parse_launch(words: Sequence[str] | None) -> tuple[tuple[str, ...] | None, int]:
    """Arguments of `accelerate launch`, and how many processes they start; None is no launch.

    The number is part of what names a run's folder, so ValueError when they do not say it.

    >>> parse_launch(["multi_gpu", "num_processes=4"])
    (('--multi_gpu', '--num_processes=4'), 4)
    """
    if words is None:
        return None, 1
    arguments = tuple(f"--{word.lstrip('-')}" for word in words)
    for argument in arguments:
        name, _, value = argument.replace("-", "_").partition("=")
        if name == "__num_processes" and value.isdecimal() and int(value) > 0:
            return arguments, int(value)
    raise ValueError(
        f"--launch {' '.join(words)} does not say how many processes; add num_processes=NUMBER"
    )
