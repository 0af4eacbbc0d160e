"""Classify the crops that the finder wrote, with the same resumable blocks as `hf-wbc predict`."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from scipy.special import softmax

from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.finder.find_result import CellLabel
from hf_wbc.inference.batch_predict import predict_images
from hf_wbc.inference.options import PredictOptions, RuntimeName
from hf_wbc.inference.select_runtime import choose_runtime
from hf_wbc.models import load_trained
from hf_wbc.taxonomy import NAMES


def crop_classifier(
    model: str, runtime: RuntimeName = "auto"
) -> Callable[[Path, float, Path], Mapping[str, CellLabel]]:
    """Return a function that classifies a folder of 25 um crops.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        runtime: What computes.

    Returns:
        A function of the folder, the scale in um per pixel and a folder for unfinished work. It
        returns what the model says of each crop, by its path.

    Raises:
        ValueError: If the model or the runtime cannot be used, before anything is searched.
    """
    pretrained = load_trained(model)
    if runtime != "auto":
        choose_runtime(pretrained.classifier.eval(), pretrained.preprocessing, runtime)
    del pretrained

    def classify(crops: Path, um_per_px: float, work: Path) -> Mapping[str, CellLabel]:
        options = PredictOptions(um_per_px=um_per_px, runtime=runtime)
        found = predict_images(model, str(crops), work, make_accelerator(), options)
        chances = softmax(found.logits.astype(np.float64), axis=1)
        rejected = np.zeros(len(chances), bool) if found.rejected is None else found.rejected
        return {
            name: CellLabel(NAMES[int(row.argmax())], float(row.max()), bool(is_rejected), outlier)
            for name, row, is_rejected, outlier in zip(
                found.image_ids, chances, rejected, found.outliers, strict=True
            )
        }

    return classify
