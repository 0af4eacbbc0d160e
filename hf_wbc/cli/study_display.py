"""Terminal output of a study: its plan, its progress and its result."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hf_wbc.cli.display import plain_console
from hf_wbc.progress_lines import INTERVAL_S, rate

if TYPE_CHECKING:
    from hf_wbc.study.plan import Estimate, PlannedRun
    from hf_wbc.study.progress import RunProgress, RunState, StudyProgress
    from hf_wbc.study.runner import Event

STATES = ("finished", "unfinished", "new", "failed", "refused")
STYLES = {
    "finished": "green", "failed": "red", "killed": "red", "refused": "red", "elsewhere": "yellow",
    "unfinished": "yellow",
}  # fmt: skip

OTHERS: "dict[str, tuple[RunState, ...]]" = {
    "waiting": ("waiting",), "elsewhere": ("elsewhere",), "failed": ("failed", "killed")
}  # fmt: skip
"""Labels of runs that are neither finished nor running, with their states."""
REMEDIES = {
    "failed": "repeat the command with --retry to run failed runs again",
    "killed": "repeat the command to resume runs that were killed",
    "refused": "refused runs need another configuration, data or model",
}


def print_plan(runs: Sequence["PlannedRun"], estimates: Sequence["Estimate"]) -> None:
    """Print one row per method, network and direction, with the state of its seeds."""
    from hf_wbc.text import duration

    keys = [
        (
            r.direction,
            r.network,
            r.requested.model.inputs,
            r.requested.eval.selection,
            r.requested.adapt.method,
        )
        for r in runs
    ]
    headings = ("direction", "network", "inputs", "selection", "method")
    shown = [i for i in range(len(headings)) if len({key[i] for key in keys}) > 1]
    console = plain_console()
    for i, heading in enumerate(headings):
        if i not in shown:
            console.print(f"{heading}: {keys[0][i]}", soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    for heading in (*(headings[i] for i in shown), "seeds", "state", "time of one"):
        table.add_column(heading, justify="right" if heading == "time of one" else "left")
    for key in dict.fromkeys(keys):
        numbers = [n for n, other in enumerate(keys) if other == key]
        seconds = [s for n in numbers if (s := estimates[n].seconds) is not None]
        table.add_row(
            *(key[i] for i in shown),
            " ".join(str(runs[n].requested.seed) for n in numbers),
            describe_states([runs[n].state for n in numbers]),
            duration(sum(seconds) / len(seconds)) if seconds else "not known",
        )
    console.print(table)


def describe_states(found: Sequence[str]) -> Text:
    """Return `2 finished, 1 new`, in color."""
    counts = Counter(found)
    text = Text()
    for state in STATES:
        if counts[state]:
            text.append(", " if text else "").append(
                f"{counts[state]} {state}", STYLES.get(state, "")
            )
    return text


def stage(run: "RunProgress") -> str:
    """Return the current stage of a running run."""
    of = run.planned.num_steps
    if run.first is None:
        return "loading"
    return f"{run.step}/{of}" if run.step < of else "scoring"


class StudyDisplay:
    """Displays the progress of a study.

    Without a terminal, it prints a line whenever a run starts or ends, and at least every 30
    seconds.
    """

    def __init__(self, progress: "StudyProgress") -> None:
        self.progress = progress
        self.console = plain_console(stderr=True)
        self.live = Live(console=self.console, auto_refresh=False, transient=True)
        self.last_line_s = time.monotonic()

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.stop()

    def on_event(self, event: "Event") -> None:
        """Update the display with an event."""
        run = self.progress.update(event)
        if run is not None and event.kind != "step":
            self._print(event, run)
        if self.console.is_terminal:
            self.live.update(self._view(), refresh=True)
        elif time.monotonic() - self.last_line_s >= INTERVAL_S:
            self._print_line(self._state_line())

    def _print(self, event: "Event", run: "RunProgress") -> None:
        """Print a permanent line for a run that has started or ended."""
        from hf_wbc.text import duration

        is_start = event.kind == "started"
        if is_start and self.console.is_terminal:
            return
        status = "started" if is_start else run.state
        line = Text(f"{self._counted()}  ").append(f"{status:9}", STYLES.get(status, ""))
        line.append(f"  {run.planned.folder.path.name}  {run.planned.name}")
        if run.reason:
            line.append(f": {run.reason}")
        elif not is_start and run.state == "finished":
            line.append(f"  {duration(run.seconds)}")
        if not self.console.is_terminal and not is_start:
            line.append(f"  ({self._remaining()})")
        self._print_line(line)

    def _print_line(self, line: Text) -> None:
        self.last_line_s = time.monotonic()
        self.console.print(line, soft_wrap=True)

    def _state_line(self) -> Text:
        """Return how much is done, the rate, the time left and the running runs, in one line."""
        progress = self.progress
        line = Text(f"{self._counted()}  {progress.done:.0%} done")
        if (steps_per_s := progress.steps_per_s()) > 0:
            line.append(f", {rate(steps_per_s, 'steps')}")
        line.append(f", {self._remaining()}")
        running = [run for run in progress.runs if run.state == "running"]
        names = "; ".join(f"{run.planned.name} {stage(run)}" for run in running)
        return line.append(f", running: {names or 'nothing yet'}")

    def _counted(self) -> str:
        of = self.progress.num_runs
        return f"[{self.progress.num_before + self.progress.num_over:>{len(str(of))}}/{of}]"

    def _remaining(self) -> str:
        from hf_wbc.text import duration

        left = self.progress.remaining_s()
        return "time left not known yet" if left is None else f"about {duration(left)} left"

    def _view(self) -> RenderableType:
        """Return the overall progress, followed by a line for each running run."""
        progress = self.progress
        status = [
            Text(f"{progress.num_finished} done"),
            Text(f"{progress.count('running')} running"),
        ]
        for word, states in OTHERS.items():
            if number := progress.count(*states):
                status.append(Text(f"{number} {word}", STYLES.get(word, "")))
        head = Table.grid(padding=(0, 1))
        head.add_row(
            "study", ProgressBar(total=1.0, completed=progress.done, width=24),
            f"{progress.done:4.0%}", Text(", ").join(status), self._remaining(),
        )  # fmt: skip
        lines = Table.grid(padding=(0, 1))
        for run in progress.runs:
            if run.state == "running":
                bar = ProgressBar(run.planned.num_steps, run.step, width=24)
                lines.add_row("  ", bar, stage(run), Text(run.planned.name))
        return Group(head, lines)


def print_ending(root: Path, progress: "StudyProgress") -> None:
    """Print how many runs are finished, which ones failed and why, and what to do next."""
    console = plain_console()
    console.print(
        f"{progress.num_finished} of {progress.num_runs} runs are finished in {root}",
        soft_wrap=True,
    )
    troubles = progress.troubles()
    by_reason: dict[tuple[str, str], list[PlannedRun]] = {}
    for word, run, reason in troubles:
        by_reason.setdefault((word, reason), []).append(run)
    for (word, reason), runs in by_reason.items():
        name = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
        line = Text().append(word, STYLES[word]).append(f"  {name}: {reason}")
        console.print(line, soft_wrap=True)
        for run in runs:
            if len(runs) > 1:
                console.print(f"    {run.name}", soft_wrap=True)
            if run.folder.failure.exists():
                console.print(f"    {run.folder.failure}", soft_wrap=True)
    for word in dict.fromkeys(word for word, _, _ in troubles):
        console.print(REMEDIES[word], soft_wrap=True)
