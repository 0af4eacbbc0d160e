"""What an engine is, and the network that it gets: everything before the last linear layer.

Squares through an engine, and features through the head.

Networks that were converted for an engine, kept: a conversion takes longer than all the rest.

They lie in datasets' cache, as pixels do, under the digest of all that decides them, and whatever
is found there is held against torch before it answers, like a new one.

What computes the features of images: torch as it is, compiled, OpenVINO, or ONNX Runtime.

Every engine is the same network without its last linear layer. That layer, which holds temperature,
priors and closed classes, is always computed by torch in fp32: an engine decides on speed alone."""

import copy
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.engine.forward import FLIPS
from hf_wbc.models import Classifier
from hf_wbc.records import atomic_replace

Precision = Literal["fp32", "bf16"]
Features = Callable[[Tensor], Tensor]
"""From images (B, 3, H, W), fp32, to features (B, d), fp32, on the device of the images."""


@dataclass(frozen=True)
class Runtime:
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


def backbone_module(classifier: Classifier) -> Backbone:
    """The network before the head, in evaluation mode; its weights are the classifier's own."""
    held = chain(classifier.model.parameters(), classifier.model.buffers())
    model = copy.deepcopy(classifier.model, {id(tensor): tensor for tensor in held})
    model.set_submodule(classifier.head_name, nn.Identity())
    return Backbone(model).eval()


Floats = NDArray[np.float32]


def run_runtime(
    engine: Runtime, squares: NDArray[np.uint8], how: ImagePreprocessing, device: torch.device
) -> Floats:
    """Penultimate features (N, d) of squares (N, S, S, 3).

    With the treatment's `flips` they are means over the mirrored images.
    """
    parts = []
    for start in range(0, len(squares), engine.batch_size):
        batch = torch.from_numpy(squares[start : start + engine.batch_size])
        inputs = preprocess(batch.to(device), how)
        views = [inputs.flip(axes) for axes in (FLIPS if how.flips else FLIPS[:1])]
        found = torch.stack([engine.features(view) for view in views]).mean(0)
        parts.append(found.cpu().numpy())
    return np.concatenate(parts)


@torch.inference_mode()
def apply_head(classifier: Classifier, features: Floats) -> Floats:
    """Logits (N, 11) of features (N, d): linear, so that means over views may come first."""
    head = classifier.head
    logits: Floats = head(torch.from_numpy(features).to(head.weight.device)).cpu().numpy()
    return logits


def converted(facts: dict[str, object] | None, convert: Callable[[Path], None]) -> Path | None:
    """The folder that `convert` fills, made at the first call; None without `facts` to name it by.

    None, too, where nothing can be written: an engine is then converted anew each time.
    """
    if facts is None:
        return None
    from huggingface_hub.constants import HF_HOME

    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    home = os.environ.get("HF_DATASETS_CACHE") or str(Path(HF_HOME) / "datasets")
    folder = Path(home) / "hf_wbc" / "engines" / key
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_replace(folder) as part:
            part.mkdir()
            convert(part)
    except OSError:
        return None
    return folder
