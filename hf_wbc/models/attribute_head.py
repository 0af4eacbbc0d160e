"""A linear head for morphological attributes on the features of a classifier.

Each attribute has a few values, such as nucleus_shape: segmented-bilobed, irregular and so on; the
head has a softmax for each attribute. It is a small safetensors file beside the model, and never
changes the class.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_wbc.records import atomic_replace
from hf_wbc.text import shorten_list

__all__ = ["ATTRIBUTES_FILE", "AttributeHead", "fit_attributes"]

ATTRIBUTES_FILE = "attributes.safetensors"
Ids = NDArray[np.int64]
Floats = NDArray[np.float32]
UNKNOWN = -1
"""Code of a value that is not known."""
WEIGHT_DECAY = 1e-3
NUM_STEPS = 200
_KEY = "hf_wbc_attributes"
_DAMAGE = AttributeError, KeyError, OSError, OverflowError, RecursionError, TypeError, ValueError


@dataclass(frozen=True, eq=False)
class AttributeHead:
    """Weights of the head, and how reliable each attribute is."""

    values: Mapping[str, tuple[str, ...]]
    """Values of each attribute."""
    weight: Tensor
    """Weights (V, d) for all V values, attribute by attribute."""
    bias: Tensor
    """Biases (V,)."""
    facts: Mapping[str, Any]
    """What it was trained on, and the F1 of each attribute on held-out cells; JSON values."""

    @property
    def reliable(self) -> tuple[str, ...]:
        """Attributes whose F1 is within .05 of the agreement between annotators."""
        return tuple(self.facts.get("reliable", ()))

    @torch.inference_mode()
    def predict(self, features: Floats) -> dict[str, Floats]:
        """Return the probabilities (N, values) of each attribute for features (N, d)."""
        logits = torch.from_numpy(features) @ self.weight.T + self.bias
        parts = torch.split(logits, [len(each) for each in self.values.values()], 1)
        return {
            name: part.softmax(1).numpy() for name, part in zip(self.values, parts, strict=True)
        }

    def save(self, folder: Path) -> Path:
        """Write the head to a model's folder in half precision, and return the file."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        values = {name: list(each) for name, each in self.values.items()}
        metadata = {_KEY: json.dumps({"values": values, "facts": dict(self.facts)})}
        tensors = {"weight": self.weight.half().contiguous(), "bias": self.bias.half()}
        with atomic_replace(folder / ATTRIBUTES_FILE) as temporary:
            try:
                save_file(tensors, temporary, metadata)
            except SafetensorError as error:
                raise OSError(f"{folder / ATTRIBUTES_FILE} cannot be written: {error}") from error
        return folder / ATTRIBUTES_FILE

    @classmethod
    def load(cls, folder: Path, num_features: int) -> Self | None:
        """Read the head of a model's folder; None if it has none.

        Raises:
            ValueError: If the file is damaged or of another model.
        """
        from safetensors import SafetensorError, safe_open

        path = folder / ATTRIBUTES_FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, "pt") as file:
                found = json.loads((file.metadata() or {})[_KEY])
                weight, bias = (file.get_tensor(name).float() for name in ("weight", "bias"))
            values = {str(name): tuple(map(str, each)) for name, each in found["values"].items()}
            facts = dict(found["facts"])
            _require_usable(values, facts)
            if not (weight.isfinite().all() and bias.isfinite().all()):
                raise ValueError("it has weights that are no finite numbers")
        except (*_DAMAGE, SafetensorError) as error:
            raise ValueError(f"{path} is damaged: {error}; delete it") from error
        total = sum(map(len, values.values()))
        if weight.shape != (total, num_features) or bias.shape != (total,):
            raise ValueError(
                f"{path} has weights {tuple(weight.shape)}, but the model has {num_features} "
                f"features and the file names {total} values; it belongs to another model"
            )
        return cls(values, weight, bias, facts)


def _require_usable(values: Mapping[str, Sequence[str]], facts: Mapping[str, Any]) -> None:
    """Raise ValueError, TypeError or AttributeError for facts that the page could not show."""
    reliable = facts.get("reliable", [])
    if unknown := [name for name in reliable if name not in values]:
        raise ValueError(f"reliable names {shorten_list(unknown)}, which is no attribute")
    for shares in facts.get("typical", {}).values():
        for each in shares.values():
            if not all(0 <= share <= 1 for share in each.values()):
                raise ValueError("typical holds values beyond 0 to 1")


def fit_attributes(
    features: Floats, codes: Mapping[str, Ids], values: Mapping[str, Sequence[str]]
) -> AttributeHead:
    """Fit the head by regularized maximum likelihood.

    Args:
        features: Features of the training cells (N, d).
        codes: By attribute, the index of each cell's value (N,); -1 if it is unknown.
        values: Values of each attribute.
    """
    inputs = torch.from_numpy(features)
    mean, std = inputs.mean(0), inputs.std(0) + 1e-6
    scaled = (inputs - mean) / std
    sizes = [len(values[name]) for name in values]
    weight = torch.zeros(sum(sizes), inputs.shape[1], requires_grad=True)
    bias = torch.zeros(sum(sizes), requires_grad=True)
    targets = [torch.from_numpy(codes[name]) for name in values]
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=NUM_STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        parts = torch.split(scaled @ weight.T + bias, sizes, 1)
        losses = [
            torch.nn.functional.cross_entropy(part, target, ignore_index=UNKNOWN)
            for part, target in zip(parts, targets, strict=True)
        ]
        loss = torch.stack(losses).sum() + WEIGHT_DECAY * weight.square().sum()
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        own = weight / std
        return AttributeHead(
            {name: tuple(each) for name, each in values.items()},
            own.detach().clone(),
            (bias - own @ mean).detach().clone(),
            {},
        )
