"""From a plan to tasks: which of its runs are to be done, and how each is handed out."""

from collections.abc import Sequence
from pathlib import Path

from hf_wbc.records import remove
from hf_wbc.study.plan import Planned, refused_folder
from hf_wbc.study.task import Task, keep_failure

BESIDE = ".study"
"""Folder beside the run folders for what the runs print."""


def to_do(runs: Sequence[Planned], retry: bool) -> list[Planned]:
    """The runs that are neither finished nor refused, nor failed unless those are tried again."""
    states = {"new", "unfinished", *(["failed"] if retry else [])}
    return [run for run in runs if run.state in states]


def make_task(run: Planned, features: Path, launch: Sequence[str] | None = None) -> Task:
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


def note_refusals(runs: Sequence[Planned], features: Path) -> None:
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
