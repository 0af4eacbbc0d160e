"""A head for morphological attributes on the features of a classifier.

Each attribute has a few values, such as nucleus_shape: segmented-bilobed, irregular and so on. The
head has one hidden layer for all attributes, and a softmax for each. It is a small safetensors file
beside the model, and never changes the class.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hf_wbc.models.utils import seeded_rng
from hf_wbc.records import atomic_replace
from hf_wbc.text import shorten_list

__all__ = ["ATTRIBUTES_FILE", "AttributeHead", "fit_attributes"]

ATTRIBUTES_FILE = "attributes.safetensors"
Ids = NDArray[np.int64]
Floats = NDArray[np.float32]
UNKNOWN = -1
"""Code of a value that is not known."""
WIDTH = 256
"""Units of the hidden layer."""
INPUT_DROPOUT, DROPOUT = 0.2, 0.5
WEIGHT_DECAY = 0.01
LEARNING_RATE = 1e-3
BATCH_SIZE = 128
NUM_EPOCHS = 30
FEWEST_STEPS = 300
LARGEST = 6.0
"""Standard deviations beyond which a training feature is clipped."""
_TINY = 1e-12
_KEY = "hf_wbc_attributes"
_DAMAGE = AttributeError, KeyError, OSError, OverflowError, RecursionError, TypeError, ValueError


@dataclass(frozen=True, eq=False)
class AttributeHead:
    """Weights of the head, and how reliable each attribute is."""

    values: Mapping[str, tuple[str, ...]]
    """Values of each attribute."""
    weight: Tensor
    """Weights (V, h) for all V values, attribute by attribute; (V, d) without a hidden layer."""
    bias: Tensor
    """Biases (V,)."""
    facts: Mapping[str, Any]
    """What it was trained on, and the F1 of each attribute on held-out cells; JSON values."""
    hidden_weight: Tensor | None = None
    """Weights (h, d) of the hidden layer, rounded to eight bits (see `round_to_bytes`); None in
    files without one."""
    hidden_bias: Tensor | None = None
    """Biases (h,) of the hidden layer."""
    has_stages: bool = False
    """Whether its features are those of all stages (see `hf_wbc.models.stage_features`)."""

    @property
    def reliable(self) -> tuple[str, ...]:
        """Attributes whose F1 is within .05 of the agreement between annotators."""
        return tuple(self.facts.get("reliable", ()))

    @torch.inference_mode()
    def predict(self, features: Floats) -> dict[str, Floats]:
        """Return the probabilities (N, values) of each attribute for features (N, d)."""
        inputs = torch.from_numpy(features)
        if self.hidden_weight is not None and self.hidden_bias is not None:
            inputs = (inputs @ self.hidden_weight.T + self.hidden_bias).relu()
        logits = inputs @ self.weight.T + self.bias
        parts = torch.split(logits, [len(each) for each in self.values.values()], 1)
        return {
            name: part.softmax(1).numpy() for name, part in zip(self.values, parts, strict=True)
        }

    def save(self, folder: Path) -> Path:
        """Write the head to a model's folder, and return the file.

        The hidden layer takes eight bits for a weight, the rest half precision.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        values = {name: list(each) for name, each in self.values.items()}
        known = {"values": values, "facts": dict(self.facts), "has_stages": self.has_stages}
        metadata = {_KEY: json.dumps(known)}
        tensors = {"weight": self.weight.half(), "bias": self.bias.half()}
        if self.hidden_weight is not None and self.hidden_bias is not None:
            codes, scale = round_to_bytes(self.hidden_weight)
            tensors |= {"hidden_weight": codes, "hidden_scale": scale}
            tensors |= {"hidden_bias": self.hidden_bias.half()}
        tensors = {name: each.contiguous() for name, each in tensors.items()}
        with atomic_replace(folder / ATTRIBUTES_FILE) as temporary:
            try:
                save_file(tensors, temporary, metadata)
            except SafetensorError as error:
                raise OSError(f"{folder / ATTRIBUTES_FILE} cannot be written: {error}") from error
        return folder / ATTRIBUTES_FILE

    @classmethod
    def load(
        cls, folder: Path, num_features: int, num_stage_features: Callable[[], int] | None = None
    ) -> Self | None:
        """Read the head of a model's folder; None if it has none.

        Args:
            folder: The model's folder.
            num_features: Width of the model's penultimate features.
            num_stage_features: Returns that of all its stages; None if there are none.

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
                tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            weight, bias = tensors["weight"], tensors["bias"]
            values = {str(name): tuple(map(str, each)) for name, each in found["values"].items()}
            facts, has_stages = dict(found["facts"]), bool(found.get("has_stages"))
            _require_usable(values, facts)
            if not all(each.isfinite().all() for each in tensors.values()):
                raise ValueError("it has weights that are no finite numbers")
        except (*_DAMAGE, SafetensorError) as error:
            raise ValueError(f"{path} is damaged: {error}; delete it") from error
        if has_stages and num_stage_features is not None:
            num_features = num_stage_features()
        hidden, hidden_bias = tensors.get("hidden_weight"), tensors.get("hidden_bias")
        scale = tensors.get("hidden_scale")
        total, width = sum(map(len, values.values())), num_features
        expected: dict[str, tuple[int, ...]] = {}
        if hidden is not None and hidden.ndim:
            width = len(hidden)
            expected = {"hidden_weight": (width, num_features), "hidden_bias": (width,)}
            expected |= {"hidden_scale": (num_features,)}
        expected |= {"weight": (total, width), "bias": (total,)}
        shapes = {name: tuple(each.shape) for name, each in tensors.items()}
        if shapes != expected:
            raise ValueError(
                f"{path} has weights {shapes}, but the model has {num_features} "
                f"features and the file names {total} values; it belongs to another model"
            )
        if hidden is not None and scale is not None:
            hidden = hidden * scale
        return cls(values, weight, bias, facts, hidden, hidden_bias, has_stages)


def round_to_bytes(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round weights (h, d) to 255 levels for each of d features.

    Returns:
        Codes (h, d) int8 and scales (d,) float32, whose product is the rounded weight.
    """
    scale = weight.abs().amax(0) / 127
    return (weight / scale.clamp(min=_TINY)).round().to(torch.int8), scale


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
    features: Floats, codes: Mapping[str, Ids], values: Mapping[str, Sequence[str]], seed: int = 0
) -> AttributeHead:
    """Fit the head by maximum likelihood, regularized by dropout and weight decay.

    Args:
        features: Features of the training cells (N, d).
        codes: By attribute, the index of each cell's value (N,); -1 if it is unknown.
        values: Values of each attribute.
        seed: Seed of the weights, the order of the cells and dropout.
    """
    inputs = torch.from_numpy(features)
    mean, std = inputs.mean(0), inputs.std(0) + 1e-6
    scaled = ((inputs - mean) / std).clamp(-LARGEST, LARGEST)
    sizes = [len(values[name]) for name in values]
    targets = torch.stack([torch.from_numpy(codes[name]) for name in values], 1)
    with seeded_rng(seed):
        first, last = nn.Linear(inputs.shape[1], WIDTH), nn.Linear(WIDTH, sum(sizes))
        norm = nn.BatchNorm1d(WIDTH)
        network = nn.Sequential(
            nn.Dropout(INPUT_DROPOUT), first, norm, nn.ReLU(), nn.Dropout(DROPOUT), last
        )
        _optimize(network, scaled, targets, sizes)
    with torch.no_grad():
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        shift = (first.bias - norm.running_mean) * scale + norm.bias
        own = first.weight * scale[:, None] / std
        return AttributeHead(
            values={name: tuple(each) for name, each in values.items()},
            weight=last.weight.detach().clone(),
            bias=last.bias.detach().clone(),
            facts={},
            hidden_weight=torch.mul(*round_to_bytes(own)),
            hidden_bias=(shift - own @ mean).detach().clone(),
        )


def _optimize(network: nn.Module, inputs: Tensor, targets: Tensor, sizes: Sequence[int]) -> None:
    """Train on cells (N, d) with targets (N, attributes)."""
    batch = min(BATCH_SIZE, len(inputs))
    per_epoch = len(inputs) // batch
    num_epochs = max(NUM_EPOCHS, -(-FEWEST_STEPS // per_epoch))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=num_epochs * per_epoch, pct_start=0.1
    )
    for _ in range(num_epochs):
        for rows in torch.randperm(len(inputs))[: per_epoch * batch].split(batch):  # type: ignore[no-untyped-call]
            parts = network(inputs[rows]).split(list(sizes), 1)
            losses = [
                nn.functional.cross_entropy(part, target, ignore_index=UNKNOWN, reduction="sum")
                for part, target in zip(parts, targets[rows].T, strict=True)
            ]
            optimizer.zero_grad()
            torch.autograd.backward(torch.stack(losses).sum() / batch)
            optimizer.step()
            schedule.step()
