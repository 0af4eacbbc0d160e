"""Classify the crops that the finder wrote, with the same resumable blocks as `hf-wbc predict`."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from scipy.special import softmax

from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.inference.batch_predict import predict_images
from hf_wbc.inference.options import PredictOptions, RuntimeName
from hf_wbc.taxonomy import NAMES

Label = tuple[str, float, bool]


def crop_classifier(
    model: str, runtime: RuntimeName = "auto"
) -> Callable[[Path, float, Path], Mapping[str, Label]]:
    """Return a function that classifies a folder of 25 um crops.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        runtime: What computes.

    Returns:
        A function of the folder, the scale in um per pixel and a folder for unfinished work. It
        returns, by the path of each crop, the class, its probability, and whether the crop is
        rejected as unlike all training cells.
    """

    def classify(crops: Path, um_per_px: float, work: Path) -> Mapping[str, Label]:
        options = PredictOptions(um_per_px=um_per_px, runtime=runtime)
        found = predict_images(model, str(crops), work, make_accelerator(), options)
        chances = softmax(found.logits.astype(np.float64), axis=1)
        rejected = np.zeros(len(chances), bool) if found.rejected is None else found.rejected
        return {
            name: (NAMES[int(row.argmax())], float(row.max()), bool(is_rejected))
            for name, row, is_rejected in zip(found.image_ids, chances, rejected, strict=True)
        }

    return classify
