"""Output of long operations: progress bars or lines, evaluation lines and a table of results."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from hf_wbc.config import TrainConfig
from hf_wbc.progress_lines import progress_lines


def plain_console(stderr: bool = False) -> Console:
    """Return a console that prints text as it is: `[`, `:` and digits of a path have no meaning.

    Args:
        stderr: Print to stderr instead of stdout.
    """
    return Console(stderr=stderr, markup=False, emoji=False)


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Draw a progress bar for each stage; without a terminal, write a line every 30 seconds.

    Only the main process writes, on stderr.

    Yields:
        A function to call with the name of a stage, the number of items done, and the total.
    """
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(),
        MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        yield lambda stage, done, total: None
        return
    console = plain_console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        with progress_lines() as lines:
            yield lines.report
        return
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def report(stage: str, done: int, total: int) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage, total=total)
            progress.update(bars[stage], completed=done)

        yield report


class TrainingDisplay:
    """Displays the progress of training, on the main process only."""

    def __init__(self, config: TrainConfig) -> None:
        self.is_main = os.environ.get("RANK", "0") == "0"
        self._progress = Progress(
            TextColumn(config.adapt.method),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=plain_console(stderr=True),
            disable=not self.is_main,
        )
        self._task = self._progress.add_task("", total=config.optim.steps, status="")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def on_progress(self, row: Mapping[str, Any]) -> None:
        """Update the bar after a step; after an evaluation, also print a permanent line."""
        self._progress.start()  # start late, so that an early error prints without a bar
        self._progress.update(self._task, completed=row["step"], total=row.get("of"))
        if "source_val" in row:
            scores = ", ".join(
                f"{domain} {values['macro_f1']:.3f}" for domain, values in row["source_val"].items()
            )
            status = f"loss {row['loss']['loss']:.3f}  macro-F1 {scores}"
            self._progress.update(self._task, status=status)
            if self.is_main:
                self._progress.console.print(f"step {row['step']}  {status}")

    def on_event(self, line: str) -> None:
        """Print a permanent line above the bar."""
        if self.is_main:
            self._progress.console.print(line)


def print_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Print a table with the scores of every domain and split, and the path of the folder."""
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for heading in ("domain", "role", "split", "images", "classes", "macro-F1 [95 %]", "accuracy"):
        table.add_column(heading, no_wrap=True)
    for domain, entry in results.items():
        for split, scores in entry.items():
            if split != "role":
                table.add_row(domain, entry["role"], split, *result_cells(scores))
    console = plain_console()
    console.print(table)
    console.print(str(folder), soft_wrap=True)


def result_cells(scores: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the scores of one split as text, or "no labels"."""
    if scores is None:
        return ("", "", "no labels", "")
    low, high = scores["intervals"]["macro_f1"]
    return (
        str(scores["num_images"]),
        str(scores["num_classes"]),
        f"{scores['macro_f1']:.3f} [{low:.3f}, {high:.3f}]",
        f"{scores['accuracy']:.3f}",
    )
