"""Save what few labels gave as a plain transformers model, calibrated for the laboratory."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hf_wbc.evaluation.abstention import fit_abstention
from hf_wbc.evaluation.calibration import NEVER, calibrate
from hf_wbc.evaluation.selective import rejection
from hf_wbc.labeling.adapt import Adaptation
from hf_wbc.labeling.few_shot import LinearFewShotHead
from hf_wbc.labeling.last_block import TunedNetwork
from hf_wbc.labeling.pool import Floats, Pool
from hf_wbc.models import Exposure, PretrainedModel, export_classifier, save_classifier
from hf_wbc.records import require_own_folder

__all__ = ["FACTS_FILE", "save_adapted"]

FACTS_FILE = "labeling.json"
"""Beside an adapted model, the labels that it has seen."""
FEWEST_CALIBRATED = 20
"""Random cells from which the sets of a saved model are fitted on them alone."""


def save_adapted(
    pretrained: PretrainedModel,
    adaptation: Adaptation,
    pool: Pool,
    sample: NDArray[np.bool_],
    folder: Path,
) -> None:
    """Save the adapted model as a plain transformers model, with its processor.

    The temperature is fitted on the held-out logits of the random cells among the labels and folded
    into the head; conformal sets and review thresholds are refitted on them too, and the reject
    option on all cells. With fewer than 20 random cells, all labeled ones take part: chosen cells
    are harder, so sets are rather too large.

    Args:
        pretrained: The model that was adapted.
        adaptation: The new head.
        pool: All cells of the laboratory.
        sample: Which of the adaptation's labeled cells are random (n,), bool.
        folder: The folder to write.

    Raises:
        ValueError: For a head that is not linear, or a folder that holds something else.
    """
    require_own_folder(folder, FACTS_FILE, "hf-wbc label")
    head = adaptation.head
    classifier = export_classifier(pretrained.classifier)
    if isinstance(head, TunedNetwork):
        head.load_block(classifier)
        head = head.head
    if not isinstance(head, LinearFewShotHead):
        raise ValueError(
            "the cache head compares cells with the labeled ones, so it is not a linear layer and "
            "cannot be saved as a transformers model; use --head logistic, prototypes or last_block"
        )
    known = sample if sample.sum() >= FEWEST_CALIBRATED else np.ones(len(sample), bool)
    logits, labels = adaptation.held_out_logits[known], adaptation.labels[known]
    temperature = calibrate(logits, labels, biased=False).temperature
    values = fit_abstention(logits / temperature, labels, temperature).to_dict()
    with torch.no_grad():
        classifier.head.weight.copy_(torch.from_numpy(head.weight / temperature))
        classifier.head.bias.copy_(torch.from_numpy(_scaled_bias(head.bias, temperature)))
    limit = rejection(adaptation.head.pool_logits(pool) / temperature)
    values["rejection"] = {"rate": limit.rate, "threshold": limit.threshold}
    exposure = Exposure(pretrained.exposure, pretrained.exposed_to).after([pool.name], [])
    notes = None if pretrained.rule.is_plain else {"rule": pretrained.rule.to_dict()}
    save_classifier(classifier, pretrained.processor, folder, notes, exposure, values)


def _scaled_bias(bias: Floats, temperature: float) -> Floats:
    scaled: Floats = np.where(bias <= NEVER / 2, NEVER, bias / temperature)
    return scaled
