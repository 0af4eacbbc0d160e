"""What a model's attribute head says about a cell, as far as the head is reliable there.

The head lies beside the model, as `attributes.safetensors`. Attributes are read from the features
of the network that computes the class, and never change the class.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_wbc.data.hub_cache import fetch_snapshot
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.engine.forward import forward_batches
from hf_wbc.inference.gallery import head_digest
from hf_wbc.models import Classifier, PretrainedModel, load_trained
from hf_wbc.models.attribute_head import ATTRIBUTES_FILE, AttributeHead
from hf_wbc.models.stage_features import num_stage_features, stage_features
from hf_wbc.taxonomy import NAMES

__all__ = ["Reason", "attribute_record", "cell_reasons", "find_reasons", "read_attribute_head"]

SURE = 0.8
"""Least probability of a value that is shown."""
TYPICAL = 0.5
"""Share of a class's training cells that have a typical value."""
MOST_CELLS = 64
"""Most cells of one call whose attributes are read: a page shows those of one cell at a time, and
features of all stages take another pass of the network."""


@dataclass(frozen=True)
class Reason:
    """An attribute of a cell."""

    attribute: str
    """For example `granule_colour`."""
    value: str
    """For example `red`."""
    probability: float
    is_typical: bool
    """Whether most training cells of the predicted class have this value."""


def read_attribute_head(model: str, pretrained: PretrainedModel) -> AttributeHead | None:
    """Read the attribute head of a model's folder or of a Hub model; None if it has none.

    Raises:
        ValueError: If the file cannot be fetched, is damaged, or was trained on the features of
            other weights.
    """
    folder = Path(model)
    if not folder.is_dir():
        repo = model.partition("@")[0]
        try:
            folder = fetch_snapshot(repo, "model", pretrained.revision, [ATTRIBUTES_FILE])
        except ValueError as error:
            raise ValueError(f"the attributes of {model}: {error}") from error
    classifier, size = pretrained.classifier, pretrained.preprocessing.size
    head = AttributeHead.load(
        folder, classifier.num_features, lambda: num_stage_features(classifier, size)
    )
    if head is not None and head.facts.get("head_sha256") != head_digest(pretrained.classifier):
        raise ValueError(
            f"{folder / ATTRIBUTES_FILE} belongs to other weights than the model's; train it again "
            "with `hf-wbc attributes`"
        )
    return head


def attribute_record(model: str) -> dict[str, Any] | None:
    """Return the scores of a model's attribute head as a record; None if it has no head."""
    pretrained = load_trained(model)
    head = read_attribute_head(model, pretrained)
    if head is None:
        return None
    where = {"name": model, "revision": pretrained.revision}
    return {**head.facts, "kind": "attributes", "model": where}


def cell_reasons(
    head: AttributeHead | None,
    classifier: Classifier,
    lock: AbstractContextManager[object],
    crops: NDArray[np.uint8],
    preprocessing: ImagePreprocessing,
    features: NDArray[np.float32],
    logits: NDArray[np.float32],
) -> list[tuple[Reason, ...]]:
    """Return the attributes of a few cells; empty ones without a head, or of many cells at once.

    Args:
        head: The model's head; None if it has none.
        classifier: The model, which computes the features of its stages if the head needs them.
        lock: Held while the model computes.
        crops: Crops (N, S, S, 3).
        preprocessing: Preprocessing of the crops.
        features: Penultimate features (N, d).
        logits: Logits (N, 11), whose maximum is the predicted class.
    """
    if head is None or len(crops) > MOST_CELLS:
        return [()] * len(crops)
    if head.has_stages:
        device = classifier.head.weight.device
        with lock:
            (outputs,) = forward_batches(
                lambda images: (stage_features(classifier, images),),
                [torch.from_numpy(crops)],
                preprocessing,
                device,
            )
        features = outputs[0].cpu().numpy()
    return find_reasons(head, features, logits.argmax(1).tolist())


def find_reasons(
    head: AttributeHead, features: NDArray[np.float32], labels: Sequence[int]
) -> list[tuple[Reason, ...]]:
    """Return the attributes of cells that a person may check, in the order of the head.

    Only reliable attributes are listed, only values of a probability of SURE or more, and only for
    classes that had cells in the table of attributes.

    Args:
        head: The head.
        features: Features of the cells (N, d).
        labels: Predicted class of each cell (N,).
    """
    found = head.predict(features)
    typical = head.facts.get("typical", {})
    reasons: list[tuple[Reason, ...]] = []
    for row, label in enumerate(labels):
        shares = typical.get(NAMES[label])
        if shares is None:
            reasons.append(())
            continue
        values = []
        for name in head.reliable:
            probabilities = found[name][row]
            best = int(probabilities.argmax())
            value, p = head.values[name][best], float(probabilities[best])
            if p >= SURE:
                share = shares.get(name, {}).get(value, 0.0)
                values.append(Reason(name, value, p, share >= TYPICAL))
        reasons.append(tuple(values))
    return reasons
