"""Progress of long commands where there is no terminal: one line every 30 seconds on stderr.

Progress bars are unreadable in the log of nohup, SLURM or CI. This module writes lines instead:

    embed acevedo_20 train: 12,800 of 100,000 (13%), 213 per second, 7 min left

Every long command uses it through `hf_wbc.cli.display.stage_progress`, which draws bars on a
terminal and calls `progress_lines` elsewhere. Commands with a display of their own, such as
training, use `ProgressLines` directly:

    with progress_lines() as lines:
        lines.report("dann", step, num_steps, status="loss 0.412")
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Lock, Thread
from typing import TextIO

from hf_wbc.escape import plain_lines
from hf_wbc.text import duration

__all__ = ["INTERVAL_S", "ProgressLines", "progress_lines", "rate"]

INTERVAL_S = 30.0
"""Seconds between two lines."""


@dataclass
class _Stage:
    """Progress of one stage."""

    start_s: float
    """Time of the first report."""
    first: int
    """Number of items at the first report, which an earlier, interrupted call may have done."""
    done: int = 0
    total: int = 0
    status: str = ""
    is_finished: bool = False


class ProgressLines:
    """Collects the progress of stages and describes it in lines; see `progress_lines`.

    Methods may be called from several threads at once.
    """

    def __init__(
        self, write: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start without any stage.

        Args:
            write: Called with each line, without a line break.
            clock: Returns the time in seconds.
        """
        self._write, self._clock = write, clock
        self._stages: dict[str, _Stage] = {}
        self._lock = Lock()

    def report(self, stage: str, done: int, total: int, status: str = "") -> None:
        """Record the progress of a stage; the last item of a stage writes a line at once.

        Report the beginning too (`done` is 0, or what an interrupted call left): rate and time left
        count from the first report.

        Args:
            stage: Name of the stage, such as "embed acevedo_20 train".
            done: Number of items done.
            total: Number of all items.
            status: Further text for the line, such as the current loss.
        """
        with self._lock:
            found = self._stages.setdefault(stage, _Stage(self._clock(), done))
            was_finished, found.is_finished = found.is_finished, done >= total
            found.done, found.total, found.status = done, total, status
            if found.is_finished and not was_finished:
                self._write(self._line(stage, found))

    def end(self, stage: str) -> None:
        """End a stage that does not reach its total, if it has begun; it can be continued."""
        with self._lock:
            if stage in self._stages:
                self._stages[stage].is_finished = True

    def write_pending(self) -> None:
        """Write a line for each stage that has begun and is not finished."""
        with self._lock:
            for name, stage in self._stages.items():
                if not stage.is_finished:
                    self._write(self._line(name, stage))

    def write(self, line: str) -> None:
        """Write a line of another kind, such as an evaluation."""
        with self._lock:
            self._write(line)

    def _line(self, name: str, stage: _Stage) -> str:
        passed_s = self._clock() - stage.start_s
        num = stage.done - stage.first
        parts = [f"{name}: {stage.done:,} of {stage.total:,}"]
        if not stage.is_finished:
            parts[0] += f" ({stage.done / stage.total:.0%})"
        if num > 0 and passed_s > 0:
            parts.append(rate(num / passed_s))
        if stage.is_finished:
            parts.append(f"took {duration(passed_s)}")
        elif num > 0:
            parts.append(f"{duration(passed_s / num * (stage.total - stage.done))} left")
        else:
            parts.append(f"time left not known after {duration(passed_s)}")
        return ", ".join([*parts, *([stage.status] if stage.status else [])])


@contextmanager
def progress_lines(
    file: TextIO | None = None, interval_s: float = INTERVAL_S
) -> Iterator[ProgressLines]:
    """Write a line about each unfinished stage at regular intervals, and one at its end.

    The lines come from a thread, so they also appear when a stage reports nothing for a while. A
    file that can no longer be written to does not stop the command.

    Args:
        file: Where to write; stderr by default.
        interval_s: Seconds between two lines.

    Yields:
        An object whose `report` is called with the name of a stage, the number of items done, and
        the total.
    """
    out = sys.stderr if file is None else file

    def write(line: str) -> None:
        with suppress(OSError):
            print(plain_lines(line), file=out, flush=True)

    lines = ProgressLines(write)
    is_over = Event()

    def write_regularly() -> None:
        while not is_over.wait(interval_s):
            lines.write_pending()

    thread = Thread(target=write_regularly, name="progress lines", daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        is_over.set()
        thread.join()


def rate(per_s: float, items: str = "") -> str:
    """Format a rate: 213 per second, 4.2 steps per second, 14 per minute, or 2.5 per hour."""
    for unit, seconds in (("second", 1), ("minute", 60), ("hour", 3600)):
        value = per_s * seconds
        if value >= 1 or unit == "hour":
            break
    number = f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
    return " ".join([number, *([items] if items else []), "per", unit])
