"""`hf-wbc compare RUNS...`: compare finished runs, with significance tests."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from hf_wbc.cli.path_arguments import OutputFolder

if TYPE_CHECKING:
    import rich.table

    from hf_wbc.comparison.compare import Comparison
    from hf_wbc.comparison.document import Table

LONGEST = 40
"""Maximum number of characters in a cell that is not wrapped."""
NOT_MEASURED = (
    "--features: no run has test images of two laboratories that share a labeled class, so the "
    "laboratory's share of the features is not measured"
)


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: OutputFolder = Path("build/comparison"),
    baseline: str = "source_only",
    resamples: int = 2000,
    seed: int = 0,
    annotations: Path | None = None,
    report: bool = True,
    metrics: bool = False,
    features: bool = False,
) -> None:
    """Compare runs: scores, significance tests and cost.

    Example: hf-wbc compare runs --out build/comparison

    Writes Markdown, LaTeX, CSV and Parquet from the records alone, and a self-contained HTML page
    with figures. The same runs give identical files.

    Args:
        runs: Run folders, or folders that contain some at any depth; duplicates are removed.
        out: Folder for the comparison; an earlier comparison there is replaced.
        baseline: Method to compare the others with.
        resamples: Number of resamples of the test images in tests between methods.
        seed: Random seed of the resamples.
        annotations: The annotations.dat of Matek_19, or the archive that contains it; adds the
            agreement between its examiners to the scores.
        report: Also write the HTML page, which takes minutes for many images.
        metrics: Also compute MCC, Cohen's kappa, AUROC, AUPRC and calibration error with intervals,
            which takes seconds for each run.
        features: Also measure how much of the features is laboratory (robustness index, performance
            drop), which takes seconds for each run.
    """
    from hf_wbc.cli.display import plain_console, stage_progress
    from hf_wbc.comparison.collect import collect
    from hf_wbc.comparison.compare import compare as compare_runs
    from hf_wbc.comparison.export import PAGE, check_output_folder, write_comparison
    from hf_wbc.file_lock import lock_output

    check_output_folder(out)
    num_stages = 3 + report
    with lock_output(out), stage_progress() as on_progress:
        on_progress("compare", 0, num_stages)
        collection = collect(runs)
        on_progress("compare", 1, num_stages)
        comparison = compare_runs(collection, baseline, resamples, seed)
        on_progress("compare", 2, num_stages)
        if annotations is not None:
            comparison = _with_ceiling(comparison, annotations, seed)
        comparison = _more(comparison, metrics, features, seed)
        write_comparison(out, comparison)
        pages = [out / PAGE]
        on_progress("compare", 3, num_stages)
        if report:
            from hf_wbc.comparison.report import render

            pages.append(render(collection, out / "report.html", comparison))
            on_progress("compare", num_stages, num_stages)
    _print(comparison)
    for page in pages:
        plain_console().print(str(page), soft_wrap=True)


def _with_ceiling(comparison: "Comparison", annotations: Path, seed: int) -> "Comparison":
    """Add the agreement between the examiners of Matek_19."""
    from dataclasses import replace

    import dataset_scripts
    from hf_wbc.comparison.reference_scores import noise_ceiling
    from hf_wbc.preparation.annotations import read_annotations

    labels = dataset_scripts.load("matek_19").labels
    ceiling = noise_ceiling(read_annotations(annotations, labels), seed=seed)
    return replace(comparison, ceiling=ceiling)


def _more(comparison: "Comparison", metrics: bool, features: bool, seed: int) -> "Comparison":
    """Add further scores, and what the features hold of the laboratory, if requested."""
    from dataclasses import replace

    from hf_wbc.cli.display import plain_console
    from hf_wbc.comparison.further_scores import further_scores
    from hf_wbc.comparison.laboratory_share import laboratory_shares

    if metrics:
        further, found = further_scores(comparison.rows, seed)
        problems = (*comparison.problems, *found)
        comparison = replace(comparison, further_scores=further, problems=problems)
    if features:
        shares, found = laboratory_shares(comparison.rows, seed)
        if not shares:
            plain_console(stderr=True).print(NOT_MEASURED, soft_wrap=True)
        problems = (*comparison.problems, *found)
        comparison = replace(comparison, laboratory_shares=shares, problems=problems)
    return comparison


def _print(comparison: "Comparison") -> None:
    """Print the short sections, with as many columns as fit the terminal."""
    from rich.text import Text

    from hf_wbc.cli.display import plain_console
    from hf_wbc.comparison.sections import sections

    console = plain_console()
    for section in sections(comparison):
        if section.is_short:
            console.print(Text(section.title, style="bold" if section.level < 3 else "italic"))
            if section.table:
                console.print(_table(section.table, console.width))
                console.print()


def _table(table: "Table", width: int) -> "rich.table.Table":
    """Return a table without the columns that do not fit."""
    from rich.text import Text

    from hf_wbc.cli.display import compact_table
    from hf_wbc.comparison.document import Strong

    shown = table.fitting(width)
    is_short = max(len(cell) for cells in table.cells for cell in cells) < LONGEST
    made = compact_table()
    for i in shown:
        is_word = i < table.num_words
        heading = table.headings[i] if is_word else table.headings[i].replace(" ", "\n", 1)
        made.add_column(Text(heading), justify="left" if is_word else "right", no_wrap=is_short)
    for cells in table.cells:
        made.add_row(
            *(Text(cells[i], style="bold" if isinstance(cells[i], Strong) else "") for i in shown)
        )
    return made
