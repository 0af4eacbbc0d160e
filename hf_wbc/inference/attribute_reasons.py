"""What a model's attribute head says about a cell, as far as the head is reliable there.

The head lies beside the model, as `attributes.safetensors`. Attributes are read from the features
that the class is computed from, and never change the class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.inference.gallery import head_digest
from hf_wbc.models import PretrainedModel, load_trained
from hf_wbc.models.attribute_head import ATTRIBUTES_FILE, AttributeHead
from hf_wbc.taxonomy import NAMES

__all__ = ["Reason", "attribute_record", "find_reasons", "read_attribute_head"]

SURE = 0.8
"""Least probability of a value that is shown."""
TYPICAL = 0.5
"""Share of a class's training cells that have a typical value."""


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
        ValueError: If the file is damaged, or was trained on the features of other weights.
    """
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        repo = model.partition("@")[0]
        try:
            path = hf_hub_download(repo, ATTRIBUTES_FILE, revision=pretrained.revision)
        except EntryNotFoundError:  # also raised offline when the cache does not have the file
            return None
        folder = Path(path).parent
    head = AttributeHead.load(folder, pretrained.classifier.num_features)
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
