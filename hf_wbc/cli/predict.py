"""`hf-wbc predict`: classify a folder of images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from hf_wbc.cli.path_arguments import OutputFile
from hf_wbc.escape import print_plain
from hf_wbc.inference.options import PredictOptions

if TYPE_CHECKING:
    from hf_wbc.inference.batch_predict import BatchPredictions

Format = Literal["challenge", "csv", "parquet"]
RENAMED_FLAGS = {"--engine": "--runtime"}
COMMON = {"format", "source", "um_per_px", "cell_fills_frame", "skip_bad", "runtime"}
"""Flags that `--help` shows besides --out."""
DEFAULTS = PredictOptions()


def predict(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    images: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES")],
    out: OutputFile,
    format: Format = "csv",
    source: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    neighbors: int | None = None,
    inference: PredictOptions = DEFAULTS,
) -> None:
    """Predict the class of every image in a folder or dataset.

    Example: hf-wbc predict runs/RUN/model my_cells --um-per-px 0.09 --out cells.csv

    Images are cropped to the central 25 um, so their scale must be known, or estimated from the red
    cells (`--estimate-scale`). The same command resumes
    an interrupted prediction. `accelerate launch` and `torchrun` share the work among processes.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        images: A folder of images, a prepared folder, or a Hub dataset.
        out: The file to write, .csv or .parquet.
        format: csv and parquet have all probabilities, the conformal set, whether the cell is
            rejected, and the kind of outlier that it looks like, such as platelet, if the model
            knows any; challenge is the submission format of 2022 (Image,Label,LabelID).
        source: Use the scale of a known laboratory, such as matek_19.
        neighbors: Let this many of the nearest reference cells (`hf-wbc reference`) name each image
            instead of the model's head, without conformal sets and rejection.
        inference: How images are read and which runtime computes.
    """
    from dataclasses import replace

    import dataset_scripts
    from hf_wbc.cli.display import stage_progress
    from hf_wbc.inference.prediction_file import predict_to_file

    if source is not None:
        if inference.estimate_scale:
            raise ValueError(f"--source {source} gives the scale; leave out --estimate-scale")
        if inference.um_per_px is not None:
            raise ValueError(
                f"--source {source} and --um-per-px {inference.um_per_px} both give a scale; "
                "leave out one of them"
            )
        inference = replace(inference, um_per_px=dataset_scripts.load(source).um_per_px)
    with stage_progress() as report:
        predictions = predict_to_file(
            model,
            images,
            out,
            format,
            inference,
            neighbors=neighbors,
            on_progress=lambda done, total: report("predict", done, total),
        )
    if predictions is not None:  # only the first process has them
        print_plain("\n".join(summary(predictions, out)))


def summary(predictions: "BatchPredictions", out: Path) -> Sequence[str]:
    """Describe finished predictions in a few lines."""
    from collections import Counter

    from hf_wbc.inference.batch_predict import describe_degradation
    from hf_wbc.inference.neighbor_vote import describe_vote
    from hf_wbc.text import shorten_list

    counts = ", ".join(f"{name} {number:,}" for name, number in predictions.counts.items())
    lines = [f"{out}: {len(predictions.image_ids):,} images, {counts}"]
    lines += predictions.metadata["data"].get("scale", {}).get("said", [])
    if predictions.rejected is not None and predictions.rejected.any():
        kinds = Counter(kind for kind in predictions.outliers if kind)
        said = "".join(f", {number:,} look like a {kind}" for kind, number in kinds.items())
        lines.append(f"rejected as none of the classes: {int(predictions.rejected.sum()):,}{said}")
    if (vote := predictions.metadata.get("neighbors")) is not None:
        lines.append(describe_vote(vote))
    runtime = predictions.metadata["runtime"]
    lines.append(f"runtime: {runtime['name']} {runtime['version']}, {runtime['precision']}")
    lines += [f"rejected runtime: {reason}" for reason in runtime["rejected"]]
    if runtime["degradation"]:
        lines.append(describe_degradation(runtime["degradation"]))
    lines += [f"left out: {reason}" for reason in predictions.bad_images]
    if predictions.skipped_files:
        lines.append(f"skipped, not images: {shorten_list(predictions.skipped_files)}")
    lines += predictions.notes
    return lines
