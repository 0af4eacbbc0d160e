"""`hf-wbc evaluate`: score a trained model on a dataset."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tyro

from hf_wbc.cli.path_arguments import KeptFolder
from hf_wbc.escape import print_plain
from hf_wbc.inference.options import RuntimeName

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_wbc.records import RunFolder

Split = Literal["train", "validation", "test"]
FURTHER = {
    "mcc": "MCC",
    "kappa": "Cohen's kappa",
    "auroc_ovr": "AUROC, one-vs-rest",
    "auroc_ovo": "AUROC, one-vs-one",
    "auprc": "AUPRC",
    "ece": "calibration error",
}

GRAVE = {
    "missed_blasts": "blasts and promyelocytes missed",
    "blasts_as_lymphocytes": "of them called lymphocytes",
    "false_blast_alarms": "other cells called blasts or promyelocytes",
    "red_as_white": "nucleated red cells called white cells",
}
"""The confusions that matter most, by their name in a record."""


def evaluate(
    model: Annotated[str, tyro.conf.Positional],
    data: Annotated[str, tyro.conf.Positional],
    out: KeptFolder = Path("build/evaluations"),
    splits: tuple[Split, ...] = ("test",),
    merge: tuple[str, ...] = (),
    classes: tuple[str, ...] = (),
    allow_unscaled: bool = False,
    runtime: RuntimeName = "torch",
    test_time_flips: bool = False,
    neighbors: int | None = None,
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
        test_time_flips: Average predictions over mirrored images, at four times the cost.
        neighbors: Let this many of the nearest reference cells (`hf-wbc reference`) name each cell
            instead of the model's head.
    """
    from functools import partial

    from hf_wbc.cli.display import stage_progress
    from hf_wbc.inference.evaluate import evaluate_model

    with stage_progress() as report:
        folder = evaluate_model(
            model, data, out, splits, merge, classes, allow_unscaled,
            report=partial(report, "predict"), runtime=runtime, test_time_flips=test_time_flips,
            neighbors=neighbors,
        )  # fmt: skip
    with folder.report_damage():
        _show(folder, folder.read_record(), splits)


def _show(folder: "RunFolder", record: "Mapping[str, Any]", splits: tuple[Split, ...]) -> None:
    """Draw the confusion matrix, and print the scores."""
    from hf_wbc.cli.display import print_results
    from hf_wbc.inference.neighbor_vote import describe_vote
    from hf_wbc.plots.confusion import draw_confusion
    from hf_wbc.plots.style import save

    name, scores = record["data"]["name"], record["scores"]
    split = "all" if len(splits) == len(get_args(Split)) else "+".join(splits)
    save(draw_confusion(scores, f"{name}, {split}"), folder.path / "confusion.png")
    print_results(folder.path, {name: {"role": "scored", split: scores}})
    if "neighbors" in record:
        print_plain(describe_vote(record["neighbors"]))
    if "consequences" in scores:  # not in evaluations of earlier versions
        print_plain(_grave_errors(scores["consequences"]))
    if "probability_scores" in record:  # not in evaluations of earlier versions
        print_plain(_further_scores(scores, record["probability_scores"]))


def _grave_errors(graded: "Mapping[str, Any]") -> str:
    """Return the errors by their consequence for a patient, a line each."""
    shares = ", ".join(f"{graded[kind]:.3f} {kind}" for kind in ("critical", "serious", "minor"))
    lines = [f"errors by consequence: {shares}"]
    for name, title in GRAVE.items():
        if graded[name]["of"]:
            lines.append(f"{title}: {graded[name]['num']:,} of {graded[name]['of']:,}")
    return "\n".join(lines)


def _further_scores(scores: "Mapping[str, Any]", of_probabilities: "Mapping[str, Any]") -> str:
    """Return the other scores with their intervals, a line each."""
    both = {**scores, **of_probabilities}
    intervals = {**scores["intervals"], **of_probabilities["intervals"]}
    lines = []
    for name, title in FURTHER.items():
        if both.get(name) is not None:
            low, high = intervals[name]
            lines.append(f"{title:<20}{both[name]:.3f} [{low:.3f}, {high:.3f}]")
    return "\n".join(lines)
