"""What an engine is, and the network that it gets: everything before the last linear layer."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from torch import Tensor, nn

from hf_wbc.models import Classifier

Precision = Literal["fp32", "bf16"]
Features = Callable[[Tensor], Tensor]
"""From images (B, 3, H, W), fp32, to features (B, d), fp32, on the device of the images."""


@dataclass(frozen=True)
class Engine:
    """One way to compute features."""

    name: str
    precision: Precision
    features: Features
    version: str
    """Of the library that does it."""
    batch_size: int
    """Images that it computes best at once."""


class Backbone(nn.Module):
    """Images (B, 3, H, W) to features (B, d): a model whose head passes on what it gets."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.model(pixel_values=inputs).logits
        return features


def backbone_of(classifier: Classifier) -> Backbone:
    """The network before the head, in evaluation mode; its weights are the classifier's own."""
    held = chain(classifier.model.parameters(), classifier.model.buffers())
    model = copy.deepcopy(classifier.model, {id(tensor): tensor for tensor in held})
    model.set_submodule(classifier.head_name, nn.Identity())
    return Backbone(model).eval()
