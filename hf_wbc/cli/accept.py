"""`hf-wbc accept`: the report of a model's acceptance in a laboratory."""

from pathlib import Path
from typing import Annotated

import tyro

from hf_wbc.cli.path_arguments import KeptFolder, OutputFolder
from hf_wbc.escape import print_plain
from hf_wbc.inference.options import PredictOptions

COMMON = {"labels", "out", "macro_f1", "recall", "merge", "cell_fills_frame", "um_per_px"}
"""Flags that `--help` shows."""
DEFAULTS = PredictOptions()


def accept(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    images: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")],
    labels: tuple[Path, ...],
    out: OutputFolder = Path("build/acceptance"),
    macro_f1: float = 0.8,
    recall: float = 0.8,
    half_width: float = 0.1,
    merge: tuple[str, ...] = (),
    adapted: bool = False,
    seed: int = 0,
    cache: KeptFolder = Path("build/labeling"),
    inference: PredictOptions = DEFAULTS,
) -> int:
    """Report whether a model may be used in a laboratory.

    Example: hf-wbc accept spaces/wbc/model my_cells --cell-fills-frame --labels my_lab.labels.csv

    Writes acceptance.html, acceptance.json and baseline.npz, with which `hf-wbc drift` compares
    later cells. State the limits before you look at the labels. The exit status is 0 if the limits
    are met, 3 if they are not, and 4 if more labels are needed to decide.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        images: A folder of images, a prepared folder, or a Hub dataset.
        labels: Labels files, or exports of Label Studio (.json) or CVAT (.xml).
        out: Folder for the report; an existing report is replaced.
        macro_f1: Lowest macro-F1.
        recall: Lowest recall of each class.
        half_width: Half the width of the recall's interval that the plan aims at.
        merge: Classes to score as one, as FROM=INTO.
        adapted: Judge the head that these labels give, not the model as it is.
        seed: Seed of the random order, as in `hf-wbc label`.
        cache: Folder of the embeddings.
        inference: How images are read and which runtime computes.
    """
    from hf_wbc.cli.label_session import write_report
    from hf_wbc.labeling.acceptance import Limits, check_report_folder

    limits = Limits(macro_f1, recall, half_width)
    check_report_folder(out)
    report = write_report(
        model, images, labels, out, limits, merge, adapted, seed, cache, inference
    )
    print_plain(f"{out / 'acceptance.html'}: {report.verdict}")
    print_plain("\n".join(report.reasons))
    return {"accepted": 0, "refused": 3, "open": 4}[report.verdict]
