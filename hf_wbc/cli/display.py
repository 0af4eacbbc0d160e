"""Output of long operations: progress bars or lines, evaluation lines and a table of results."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table

from hf_wbc.config import TrainConfig
from hf_wbc.escape import plain_lines
from hf_wbc.progress_lines import ProgressLines, progress_lines

if TYPE_CHECKING:
    from hf_wbc.records import RunFolder

_LOADING = "load model and datasets"


def plain_console(stderr: bool = False) -> Console:
    """Return a console that prints text as it is: `[`, `:` and digits of a path have no meaning.

    Args:
        stderr: Print to stderr instead of stdout.
    """
    return _PlainConsole(stderr=stderr, markup=False, emoji=False)


class _PlainConsole(Console):
    """A console that shows control characters of names instead of obeying them."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(plain_lines(segment.text), segment.style)


def is_main_process() -> bool:
    """Return whether this process prints: the only one, or the first of several.

    Schedulers and containers set RANK for single processes too.
    """
    is_alone = os.environ.get("WORLD_SIZE", "1").strip() in ("", "0", "1")
    return is_alone or os.environ.get("RANK", "0").strip() == "0"


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
    if not is_main_process():
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
    """Displays the progress of training, on the main process only.

    Without a terminal, a line is written at least every 30 seconds.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.is_main = is_main_process()
        self._name, self._status = config.adapt.method, ""
        console = plain_console(stderr=True)
        self._has_bars = console.is_terminal and not console.is_dumb_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=console,
            disable=not (self.is_main and self._has_bars),
        )
        self._bars: dict[str, TaskID] = {}
        self._lines: ProgressLines | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self.is_main and not self._has_bars:
            self._lines = self._stack.enter_context(progress_lines())
            self._lines.report(_LOADING, 0, 1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        self._stack.close()

    def on_progress(self, row: Mapping[str, Any]) -> None:
        """Show a step; after an evaluation, also print a permanent line."""
        if "loss" in row:
            self._status = f"loss {row['loss']['loss']:.3f}"
        if "source_val" in row:
            scores = ", ".join(
                f"{domain} {values['macro_f1']:.3f}" for domain, values in row["source_val"].items()
            )
            self._status += f"  macro-F1 {scores}"
            self.on_event(f"step {row['step']}  {self._status}")
        if "of" in row:
            self._show(self._name, row["step"], row["of"], self._status)

    def on_stage(self, stage: str, done: int, total: int) -> None:
        """Show the progress of another stage, such as reading images."""
        if self._lines is not None:
            self._lines.end(self._name)  # a training that stops early has no last step
        self._show(stage, done, total)

    def on_event(self, line: str) -> None:
        """Print a permanent line above the bar."""
        if self._lines is not None:
            self._lines.write(line)
        elif self.is_main:
            self._progress.console.print(line)

    def _show(self, stage: str, done: int, total: int, status: str = "") -> None:
        if self._lines is not None:
            self._lines.end(_LOADING)
            self._lines.report(stage, done, total, status)
            return
        self._progress.start()  # start late, so that an early error prints without a bar
        if stage not in self._bars:
            self._bars[stage] = self._progress.add_task(stage, total=total, status="")
        is_visible = stage == self._name or done < total
        self._progress.update(
            self._bars[stage], completed=done, total=total, status=status, visible=is_visible
        )


def train_in(config: TrainConfig, work: Path) -> "RunFolder":
    """Train in `work`/runs, with the features in `work`/features, and show the progress."""
    from hf_wbc.engine.run import run

    with TrainingDisplay(config) as display:
        places = work / "runs", work / "features"
        return run(config, *places, (), display.on_progress, on_stage=display.on_stage)


def compact_table(*headings: str) -> Table:
    """Return a table without a frame, whose cells are not wrapped."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


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
