"""`hf-wbc drift`: compare later cells of a laboratory with those at acceptance."""

from pathlib import Path
from typing import Annotated

import tyro

from hf_wbc.cli.path_arguments import KeptFolder, OutputFile
from hf_wbc.escape import print_plain
from hf_wbc.inference.options import PredictOptions

COMMON = {"baseline", "out", "cell_fills_frame", "um_per_px", "level"}
"""Flags that `--help` shows."""
DEFAULTS = PredictOptions()


def drift(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    images: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")],
    baseline: Path = Path("build/acceptance/baseline.npz"),
    out: OutputFile | None = None,
    level: float = 0.03,
    seed: int = 0,
    cache: KeptFolder = Path("build/labeling"),
    inference: PredictOptions = DEFAULTS,
) -> int:
    """Compare later cells of a laboratory with those at acceptance.

    Example: hf-wbc drift spaces/wbc/model next_month --cell-fills-frame

    Compares embedding, stain and sharpness, predicted classes and rejected cells. The exit status
    is 0 without an alarm and 3 with one.

    Args:
        model: The model that was accepted.
        images: A folder of images, a prepared folder, or a Hub dataset.
        baseline: The baseline that `hf-wbc accept` wrote.
        out: File for the result as JSON.
        level: Rate of false alarms.
        seed: Seed of the permutations.
        cache: Folder of the embeddings.
        inference: How images are read and which runtime computes.
    """
    from functools import partial

    from hf_wbc.cli.display import stage_progress
    from hf_wbc.engine.calibrate import fit_run_abstention
    from hf_wbc.labeling.drift import Baseline, check_comparable
    from hf_wbc.labeling.drift import drift as compare
    from hf_wbc.labeling.pool import open_pool
    from hf_wbc.models import load_trained
    from hf_wbc.records import write_json

    before = Baseline.load(baseline)
    check_comparable(before, load_trained(model).revision, level)  # before any cell is embedded
    with stage_progress() as progress:
        pretrained, pool = open_pool(
            model, images, inference, cache, reserve_test=False,
            on_progress=partial(progress, "embed"),
        )  # fmt: skip
    for note in pool.notes:
        print_plain(note)
    abstention = fit_run_abstention(pretrained)
    rejection = None if abstention is None else abstention.rejection
    found = compare(before, pool, rejection, pretrained.revision, level=level, seed=seed)
    print_plain("\n".join(found.sentences))
    for name, p in found.p_values.items():
        print_plain(f"  {name}: p = {p:.3f}")
    if out is not None:
        write_json(out, found.to_dict())
    return 3 if found.alarm else 0
