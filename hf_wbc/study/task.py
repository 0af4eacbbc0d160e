"""A run that a study has to do, how it ended, and what is kept when it failed.

Nothing heavy is imported here: a job on a cluster must be ready for signals soon after it begins.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hf_wbc.records import RunFolder

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
