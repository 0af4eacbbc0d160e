"""`hf-wbc evaluate`: score a trained model on a dataset."""

from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from hf_wbc.inference.options import RuntimeName

Split = Literal["train", "validation", "test"]


def evaluate(
    model: Annotated[str, tyro.conf.Positional],
    data: Annotated[str, tyro.conf.Positional],
    out: Path = Path("build/evaluations"),
    splits: tuple[Split, ...] = ("test",),
    merge: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
    allow_unscaled: bool = False,
    runtime: RuntimeName = "torch",
) -> None:
    """Score a model on a labeled dataset.

    Example: hf-wbc evaluate runs/RUN/model build/matek_19

    Writes the record, the predictions and a confusion matrix.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        data: A prepared folder or a Hub dataset.
        out: Folder for the evaluations; each one is named by a digest of model and data.
        splits: Splits to score; several are scored together.
        merge: Classes to score as one, as FROM=INTO.
        classes: Classes to score; if omitted, those with labels in the data.
        allow_unscaled: Accept a dataset of unknown scale (the cell fills the frame).
        runtime: What computes; auto is the fastest installed one whose probabilities agree with
            torch's to 0.001.
    """
    from functools import partial

    from hf_wbc.cli.display import print_results, stage_progress
    from hf_wbc.inference.evaluate import evaluate_model
    from hf_wbc.plots.confusion import draw_confusion
    from hf_wbc.plots.style import save

    with stage_progress() as report:
        folder = evaluate_model(
            model, data, out, splits, merge, classes, allow_unscaled,
            report=partial(report, "predict"), runtime=runtime,
        )  # fmt: skip
    record = folder.read_record()
    name, scores = record["data"]["name"], record["scores"]
    split = "all" if len(splits) == len(get_args(Split)) else "+".join(splits)
    save(draw_confusion(scores, f"{name}, {split}"), folder.path / "confusion.png")
    print_results(folder.path, {name: {"role": "scored", split: scores}})
