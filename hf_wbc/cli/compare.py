"""`hf-wbc compare RUNS...`: run folders laid side by side, and which differences are real."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    import rich.table
    from rich.console import Console

    from hf_wbc.comparison.compare import Comparison
    from hf_wbc.comparison.document import Table

LONGEST = 40
"""Letters of a cell that is not wrapped."""


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path = Path("build/comparison"),
    baseline: str = "source_only",
    resamples: int = 2000,
    seed: int = 0,
    annotations: Path | None = None,
    report: bool = True,
) -> None:
    """Write the table of all runs: scores by selection rule, tests, cost, and what was left out.

    Markdown, LaTeX, CSV and Parquet, from records alone, and one HTML page with pictures that
    loads nothing: the same runs give the same bytes.

    Args:
        runs: Run folders, or folders that hold some at any depth; a run found twice is one.
        out: The comparison's folder; an earlier comparison there is replaced.
        baseline: The method that the others are held against.
        resamples: Draws of the test images for the tests between methods.
        seed: The same seed draws the same images.
        annotations: The annotations.dat of Matek_19, or the archive that holds it: examiners'
            agreement stands beside the scores.
        report: Draw the HTML page too, which takes minutes for many images.
    """
    from dataclasses import replace

    import dataset_scripts
    from hf_wbc.comparison.collect import collect
    from hf_wbc.comparison.compare import compare as compare_runs
    from hf_wbc.comparison.export import PAGE, check_output_folder, write_comparison
    from hf_wbc.comparison.reference_scores import noise_ceiling
    from hf_wbc.preparation.annotations import read_annotations

    check_output_folder(out)
    collection = collect(runs)
    comparison = compare_runs(collection, baseline, resamples, seed)
    if annotations is not None:
        labels = dataset_scripts.load("matek_19").labels
        ceiling = noise_ceiling(read_annotations(annotations, labels), seed=seed)
        comparison = replace(comparison, ceiling=ceiling)
    write_comparison(out, comparison)
    pages = [out / PAGE]
    if report:
        from hf_wbc.comparison.report import render

        pages.append(render(collection, out / "report.html", comparison))
    _print(comparison)
    for page in pages:
        _console().print(str(page), highlight=False, soft_wrap=True)


def _print(comparison: "Comparison") -> None:
    """The sections that are short enough, each with what a terminal has room for."""
    from rich.text import Text

    from hf_wbc.comparison.sections import sections

    console = _console()
    for section in sections(comparison):
        if section.is_short:
            console.print(Text(section.title, style="bold" if section.level < 3 else "italic"))
            if section.table:
                console.print(_table(section.table, console.width))
                console.print()


def _table(table: "Table", width: int) -> "rich.table.Table":
    """Without the columns for which there is no room."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    from hf_wbc.comparison.document import Strong

    shown = table.fitting(width)
    is_short = max(len(cell) for cells in table.cells for cell in cells) < LONGEST
    made = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for i in shown:
        is_word = i < table.num_words
        heading = table.headings[i] if is_word else table.headings[i].replace(" ", "\n", 1)
        made.add_column(Text(heading), justify="left" if is_word else "right", no_wrap=is_short)
    for cells in table.cells:
        made.add_row(
            *(Text(cells[i], style="bold" if isinstance(cells[i], Strong) else "") for i in shown)
        )
    return made


def _console() -> "Console":
    from rich.console import Console

    return Console()
