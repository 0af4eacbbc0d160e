"""`hf-wbc stress`: score a trained model on corrupted cells."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from hf_wbc.cli.path_arguments import KeptFolder
from hf_wbc.escape import print_plain
from hf_wbc.inference.options import RuntimeName, Split

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMON = {"split", "limit", "corruptions", "baseline", "merge", "runtime", "seed"}
"""Flags that `--help` shows besides --out."""


def stress(
    model: Annotated[str, tyro.conf.Positional],
    data: Annotated[str, tyro.conf.Positional],
    out: KeptFolder = Path("build/stress"),
    split: Split = "test",
    limit: int = 2000,
    corruptions: tuple[str, ...] = (),
    baseline: Path | None = None,
    merge: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
    seed: int = 0,
    allow_unscaled: bool = False,
    runtime: RuntimeName = "auto",
) -> None:
    """Score a model on noisy, blurred, ill-lit and ill-cropped cells.

    Example: hf-wbc stress runs/RUN/model build/matek_19

    Ten corruptions at four severities in physical units. Writes the record, curves and a page with
    example cells. The same command resumes an interrupted test.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        data: A prepared folder or a Hub dataset.
        out: Folder for the tests; each one is named by a digest of model, data and options.
        split: Split whose labeled cells are used.
        limit: Most cells to use, evenly spaced within each class.
        corruptions: Names of the corruptions, such as noise and jpeg; all ten if omitted.
        baseline: Folder of another model's test on the same cells, for the mean corruption error.
        merge: Classes to score as one, as FROM=INTO.
        classes: Classes to score; if omitted, those with labels in the data.
        seed: Seed of directions, signs and noise.
        allow_unscaled: Accept a dataset of unknown scale (the cell fills the frame).
        runtime: What computes; auto is the fastest installed one whose probabilities agree with
            torch's to 0.001.
    """
    from functools import partial

    from jinja2 import UndefinedError

    from hf_wbc.cli.display import stage_progress
    from hf_wbc.inference.stress import StressOptions, stress_model
    from hf_wbc.inference.stress_page import write_stress_page

    options = StressOptions(
        split, limit, corruptions, merge, classes, seed, allow_unscaled, runtime
    )
    with stage_progress() as report:
        folder, test = stress_model(
            model, data, out, options, baseline, report=partial(report, "stress")
        )
        record = folder.read_record()
        with folder.report_damage(UndefinedError):
            page = write_stress_page(folder.path, record, test)
    with folder.report_damage():
        _print(record, page)


def _print(record: "Mapping[str, Any]", page: Path) -> None:
    """Print a row for each corruption, a summary, and the location of the page."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from hf_wbc.cli.display import plain_console

    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for heading in ("corruption", "1", "2", "3", "4", "mean", "calibration error"):
        table.add_column(heading, no_wrap=True)
    for name, curve in record["curves"].items():
        scores = [f"{each['macro_f1']:.3f}" for each in curve]
        ece = sum(each["ece"] for each in curve) / len(curve)
        mean = record["summary"]["by_corruption"][name]
        table.add_row(name, *scores, f"{mean:.3f}", f"{ece:.3f}")
    console = plain_console()
    console.print(table)
    clean, summary = record["clean"], record["summary"]
    print_plain(
        f"macro-F1 {clean['macro_f1']:.3f} clean, {summary['macro_f1']:.3f} corrupted "
        f"({summary['retained']:.0%}); worst corruption {summary['worst_corruption']['name']}, "
        f"worst class {summary['worst_class']['name']} {summary['worst_class']['f1']:.3f}"
    )
    if (baseline := record.get("baseline")) and baseline["mce"] is not None:
        print_plain(f"mean corruption error {baseline['mce']:.3f} against {baseline['model']}")
    console.print(str(page), soft_wrap=True)
