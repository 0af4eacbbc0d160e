"""`hf-wbc combine`: average trained models into a soup or an ensemble."""

from typing import Annotated, Literal

import tyro

from hf_wbc.cli.path_arguments import OutputFolder
from hf_wbc.escape import print_plain


def combine(
    models: Annotated[tuple[str, ...], tyro.conf.Positional],
    sources: tuple[str, ...],
    out: OutputFolder,
    how: Literal["ensemble", "soup"] = "ensemble",
    weights: tuple[float, ...] = (),
    allow_unscaled: bool = False,
) -> None:
    """Average trained models into one: a soup or an ensemble.

    Example: hf-wbc combine runs/A/model runs/B/model --sources build/acevedo_20 --out build/both

    An ensemble averages the predictions of any models that take the same images, and costs as much
    as all of them. A soup averages the weights of models fine-tuned from the same model, and costs
    as much as one; a linear probe and the model fine-tuned from it give WiSE-FT. The result is
    calibrated on the sources' validation images, and used like any trained model.

    Args:
        models: Two or more model folders of runs, or Hub models.
        sources: The prepared folders or Hub datasets that the models were trained on.
        out: The model folder to write.
        how: Average predictions (ensemble) or weights (soup).
        weights: Share of each model in a soup; equal by default.
        allow_unscaled: Accept sources of unknown scale.
    """
    from functools import partial

    from hf_wbc.cli.display import stage_progress
    from hf_wbc.file_lock import lock_output
    from hf_wbc.inference.combine import combine_models

    if weights and how == "ensemble":
        raise ValueError("an ensemble weighs its models equally; use --how soup, or no --weights")
    with lock_output(out), stage_progress() as report:
        made = combine_models(
            models, sources, out, how, weights, allow_unscaled, partial(report, "predict")
        )
    print("macro-F1 on the sources' validation images")
    for name, value in (*made.members.items(), (f"{made.folder} ({how})", made.macro_f1)):
        print_plain(f"  {value:.3f}  {name}")
