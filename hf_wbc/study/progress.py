"""Progress of a running study: the state of each run, and the remaining time."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hf_wbc.study.plan import Estimate, PlannedRun, total_cost
from hf_wbc.study.runner import Event
from hf_wbc.study.task import Ending

RunState = Literal["waiting", "running", "elsewhere", "finished", "failed", "killed"]
STATE_AFTER: dict[Ending, RunState] = {
    "finished": "finished",
    "failed": "failed",
    "killed": "killed",
    "busy": "elsewhere",
}
OVER = ("finished", "failed", "killed")


@dataclass
class RunProgress:
    """Progress of one run."""

    planned: PlannedRun
    weight: float
    """Work of the run: estimated seconds, or images if an estimate is missing."""
    state: RunState = "waiting"
    first: int | None = None
    """The first reported step, from which the run resumed."""
    step: int = 0
    started: float = 0.0
    seconds: float = 0.0
    """Duration of the run once it has ended."""
    reason: str = ""
    """Why the run failed."""

    @property
    def fraction(self) -> float:
        """Fraction of the run that was done in this session."""
        if self.state in OVER:
            return 1.0
        return (self.step - (self.first or 0)) / max(1, self.planned.num_steps)

    @property
    def left(self) -> float:
        """Fraction of the run that remains."""
        if self.state in OVER:
            return 0.0
        return 1.0 - self.step / max(1, self.planned.num_steps)


class StudyProgress:
    """Progress of all runs of a study, updated with every event."""

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        left: Sequence[PlannedRun],
        estimates: Sequence[Estimate],
        num_workers: int,
    ) -> None:
        self.num_runs = len(runs)
        self.num_before = sum(run.state == "finished" for run in runs)
        """Runs that were finished before the study started."""
        self.skipped = [run for run in runs if run.state != "finished" and run not in left]
        """Runs that failed earlier or were refused."""
        known = [estimate.seconds for estimate in estimates]
        self.guess = None if None in known else total_cost(estimates, num_workers)
        """Estimated seconds of all runs, before any work is done."""
        self.runs = [
            RunProgress(run, _images(run) if self.guess is None else estimate.seconds or 0.0)
            for run, estimate in zip(left, estimates, strict=True)
        ]
        self.start = time.monotonic()

    def update(self, event: Event) -> RunProgress | None:
        """Update the progress with an event, and return the run that it concerns."""
        if event.kind == "tick":
            return None
        run, now = self.runs[event.number], time.monotonic()
        if event.kind == "started":
            run.state, run.started = "running", now
        elif event.kind == "waits":
            run.state = "waiting"
        elif event.kind == "step":
            run.first = event.step if run.first is None else run.first
            run.step = event.step
        elif event.outcome is not None:
            run.state, run.reason = STATE_AFTER[event.outcome.ending], event.outcome.reason
            run.seconds = now - run.started
        return run

    def count(self, *states: RunState) -> int:
        """Return the number of runs in any of these states."""
        return sum(run.state in states for run in self.runs)

    @property
    def num_over(self) -> int:
        """Number of runs of this session that have ended."""
        return sum(run.state in OVER for run in self.runs)

    @property
    def num_finished(self) -> int:
        """Number of finished runs, including those finished before."""
        return self.num_before + self.count("finished")

    def troubles(self) -> list[tuple[str, PlannedRun, str]]:
        """Return (state, run, reason) of every run that did not finish."""
        ended = [(s.state, s.planned, s.reason) for s in self.runs if s.reason]
        return [*ended, *((run.state, run, run.failure) for run in self.skipped)]

    @property
    def done(self) -> float:
        """Fraction of the total work that is done."""
        all_work = sum(run.weight for run in self.runs)
        left = sum(run.weight * run.left for run in self.runs)
        return 1.0 - left / all_work if all_work else 1.0

    def steps_per_s(self) -> float:
        """Return the training steps per second of all runs together, in this session."""
        steps = sum(run.step - (run.first or 0) for run in self.runs)
        return steps / max(1e-9, time.monotonic() - self.start)

    def remaining_s(self) -> float | None:
        """Return the remaining seconds at the rate so far.

        Before any work is done, the estimate is used instead; None if there is none.
        """
        elapsed = time.monotonic() - self.start
        here = sum(s.weight * s.fraction for s in self.runs if s.state in ("finished", "running"))
        left = sum(run.weight * run.left for run in self.runs)
        if here > 0:
            return elapsed * left / here
        return None if self.guess is None else max(0.0, self.guess - elapsed)


def _images(run: PlannedRun) -> float:
    config = run.config
    return float(run.num_steps * config.optim.images_per_step * run.num_processes)
