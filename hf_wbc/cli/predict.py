"""`hf-wbc predict`: a trained model's answers to images that nobody has labelled."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

Format = Literal["challenge", "csv", "parquet"]
Split = Literal["train", "validation", "test"]
Engine = Literal["auto", "torch", "compile", "openvino", "onnx"]


def predict(
    model: Annotated[str, tyro.conf.Positional],
    folder: Annotated[str, tyro.conf.Positional],
    out: Path,
    format: Format = "csv",
    um_per_px: float | None = None,
    source: str | None = None,
    cell_fills_frame: bool = False,
    skip_bad: bool = False,
    splits: tuple[Split, ...] = ("train", "validation", "test"),
    num_proc: int | None = None,
    engine: Engine = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
) -> None:
    """Write the classes that a model sees in a folder of images, one row an image.

    The central 25 um of each image are cropped, as in training, so its scale has to be known.
    After a kill the same command goes on where it was. Under `accelerate launch $(which hf-wbc)
    predict ...`, or `torchrun` likewise, the processes share the work.

    Args:
        model: A trained model: a run's model folder, or a Hub model `org/name[@revision]`.
        folder: A folder of images, a prepared folder, or a Hub dataset.
        out: The file to write, .csv or .parquet; it appears whole.
        format: challenge is the submission of 2022 (Image,Label,LabelID); csv and parquet have the
            probabilities of all classes, the conformal set, and whether a cell is rejected as none
            of them.
        um_per_px: Scale of the images in um per pixel.
        source: Take the scale of a known laboratory instead, such as matek_19.
        cell_fills_frame: The images are cut out around their cells; their scale does not matter.
        skip_bad: Go on without bad images, and name them.
        splits: Which images of a prepared dataset.
        num_proc: Processes that decode images; every core when not given.
        engine: What computes: the fastest that is installed and agrees with torch, or one by name.
        precision: bf16 is faster on some processors and turns some answers; what it costs is
            measured and said.
    """
    import dataset_scripts
    from hf_wbc.cli.display import stage_progress
    from hf_wbc.inference.batch_predict import describe_degradation
    from hf_wbc.inference.prediction_file import predict_to_file
    from hf_wbc.text import shorten_list

    if source is not None:
        if um_per_px is not None:
            raise ValueError(f"--source {source} and --um-per-px {um_per_px} both say a scale")
        um_per_px = dataset_scripts.load(source).um_per_px
    with stage_progress() as report:
        answers = predict_to_file(
            model,
            folder,
            out,
            format,
            um_per_px=um_per_px,
            cell_fills_frame=cell_fills_frame,
            skip_bad=skip_bad,
            splits=splits,
            num_proc=num_proc,
            engine=engine,
            precision=precision,
            report=lambda done, total: report("predict", done, total),
        )
    if answers is None:  # the first process says it all
        return
    numbers = ", ".join(f"{name} {number:,}" for name, number in answers.counts.items())
    print(f"{out}: {len(answers.image_ids):,} images, {numbers}")
    if answers.rejected is not None and answers.rejected.any():
        print(f"rejected as none of the classes: {int(answers.rejected.sum()):,}")
    used = answers.facts["engine"]
    print(f"engine: {used['name']} {used['version']}, {used['precision']}")
    for reason in used["passed_over"]:
        print(f"passed over: {reason}")
    if used["cost"]:
        print(describe_degradation(used["cost"]))
    for reason in answers.bad:
        print(f"left out: {reason}")
    if answers.passed_over:
        print(f"passed over, no images: {shorten_list(answers.passed_over)}")
