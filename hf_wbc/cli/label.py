"""`hf-wbc label`: label a few cells of a new laboratory, and adapt a model to it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from hf_wbc.cli.path_arguments import KeptFolder, OutputFile, OutputFolder, WrittenPath
from hf_wbc.inference.options import PredictOptions

HeadName = Literal["logistic", "prototypes", "cache", "last_block"]
COMMON = {"budget", "batch", "cell_fills_frame", "um_per_px", "save", "add", "simulate", "merge"}
"""Flags that `--help` shows besides --out."""


@dataclass(frozen=True)
class LearningOptions:
    """How cells are chosen, and what their labels fit."""

    strategy: Annotated[str, tyro.conf.arg(metavar="NAME")] = "typical_then_margin"
    """Which cells are chosen: typical_then_margin, random, k_center, typiclust, margin, badge,
    diverse_margin or class_seeking."""
    head: HeadName = "logistic"
    """Which head the labels fit; cache cannot be saved, last_block tunes the last block too."""
    random_share: float = 0.3
    """Part of each batch that is chosen at random, to estimate the scores."""
    merge: tuple[str, ...] = ()
    """Classes to score as one, as FROM=INTO."""
    seed: int = 0
    """Seed of all choices."""


@dataclass(frozen=True)
class SimulationOptions:
    """Learning curves of laboratories whose labels are known."""

    simulate: bool = False
    """Answer from the known labels and print learning curves; the labels file is not written."""
    budgets: tuple[int, ...] = (10, 25, 50, 100)
    """Numbers of labels to score."""
    seeds: int = 20
    """Number of repetitions."""
    first_seed: int = 0
    """Seed of the first repetition."""
    strategies: tuple[str, ...] = ("typical_then_margin", "random")
    """Strategies to compare."""
    heads: tuple[HeadName, ...] = ("logistic",)
    """Heads to compare."""
    draws: OutputFile | None = None
    """CSV of the draws, which is written after each and resumed."""
    figure: OutputFile | None = None
    """Image of the learning curves to write, of the first head."""


PREDICTING, LEARNING, SIMULATION = PredictOptions(), LearningOptions(), SimulationOptions()


def label(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")],
    out: Annotated[Path, WrittenPath(False, may_be_unused=True)] = Path("labels.csv"),
    budget: int | None = None,
    batch: int = 10,
    add: tuple[Path, ...] = (),
    save: OutputFolder | None = None,
    reader: str = "",
    suggest: bool = False,
    folder_labels: bool = False,
    mapping: Path | None = None,
    export: OutputFile | None = None,
    cache: KeptFolder = Path("build/labeling"),
    learning: LearningOptions = LEARNING,
    simulation: SimulationOptions = SIMULATION,
    inference: PredictOptions = PREDICTING,
) -> None:
    """Label a few cells of a new laboratory, and adapt a model to it.

    Example: hf-wbc label spaces/wbc/model my_cells --cell-fills-frame --out my_lab.labels.csv

    On a terminal, the command asks for one cell after the other, next to a page that shows them
    (OUT.html). Otherwise it writes that page, which a person labels in a browser, and reads the
    file that the browser saves with --add. Every answer is in OUT at once; the command resumes.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        images: A folder of images, a prepared folder or a Hub dataset; several with --simulate.
        out: The labels file (image_id,label,reader,seconds).
        budget: Number of cells to label in all; by default 50, or all if there are fewer.
        batch: Number of cells that are chosen together.
        add: Other labels: labels files, exports of Label Studio (.json) or CVAT (.xml).
        save: Folder for the adapted model, a plain transformers model.
        reader: Who labels, such as initials.
        suggest: Show what the model thinks, which biases the reader.
        folder_labels: Use the labels that class folders or the dataset state.
        mapping: Mapping file of class folders, as for `hf-wbc prepare class_folders`.
        export: Write the next cells for Label Studio (.json) or CVAT (.xml) instead of asking.
        cache: Folder of the embeddings.
        learning: How cells are chosen, and what their labels fit.
        simulation: Learning curves of laboratories whose labels are known.
        inference: How images are read and which runtime computes.
    """
    from hf_wbc.cli.label_session import check_learning, run_session
    from hf_wbc.cli.label_simulation import run_simulation

    if simulation.simulate:
        run_simulation(model, images, mapping, cache, learning.merge, simulation, inference)
        return
    if len(images) != 1:
        raise ValueError(f"{len(images)} folders are given; name one, or several with --simulate")
    check_learning((), (), add, export, save)
    session = run_session(model, images[0], out, mapping, cache, inference, budget, learning)
    session.collect(add, folder_labels)
    if export is not None:
        session.export(export, batch)
        return
    session.ask(batch, reader, suggest)
    session.report(save)
