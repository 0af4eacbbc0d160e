"""What all runtimes share: the network before the head, the head, and cached conversions.

Every runtime (`hf_wbc.engine.forward.Runtime`) runs the same network up to the last linear layer.
Torch always computes that layer in fp32, because it carries temperature, priors and masked classes:
a runtime decides speed only.
"""

import copy
import hashlib
import json
import os
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hf_wbc.data.dataset import DomainSplit
from hf_wbc.data.pixel_cache import stream_pixels
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.engine.features import crop_geometry
from hf_wbc.engine.forward import Report, Runtime, forward_batches
from hf_wbc.models import Classifier, PretrainedModel
from hf_wbc.records import atomic_replace

__all__ = [
    "Backbone",
    "apply_head",
    "backbone_module",
    "cached_conversion",
    "run_runtime",
    "split_features",
]

_ROWS_AT_ONCE = 128
Floats = NDArray[np.float32]


class Backbone(nn.Module):
    """A network from images (B, 3, H, W) to features (B, d): a model with an identity head."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute features (B, d)."""
        features: Tensor = self.model(pixel_values=inputs).logits
        return features


def backbone_module(classifier: Classifier) -> Backbone:
    """Return the network before the head in evaluation mode, sharing the classifier's weights."""
    shared = chain(classifier.model.parameters(), classifier.model.buffers())
    model = copy.deepcopy(classifier.model, {id(tensor): tensor for tensor in shared})
    model.set_submodule(classifier.head_name, nn.Identity())
    return Backbone(model).eval()


def run_runtime(
    runtime: Runtime,
    crops: NDArray[np.uint8],
    preprocessing: ImagePreprocessing,
    device: torch.device,
) -> Floats:
    """Compute penultimate features (N, d) of crops (N, S, S, 3).

    If the preprocessing asks for `flips`, features are means over the mirrored images.
    """
    starts = range(0, len(crops), runtime.batch_size)
    batches = (torch.from_numpy(crops[start : start + runtime.batch_size]) for start in starts)
    outputs = forward_batches(
        lambda images: (runtime.features(images),), batches, preprocessing, device
    )
    return np.concatenate([features.cpu().numpy() for (features,) in outputs])


def split_features(
    pretrained: PretrainedModel,
    runtime: Runtime,
    preprocessing: ImagePreprocessing,
    domain: DomainSplit,
    rows: NDArray[np.int64],
    report: Report,
) -> Floats:
    """Compute penultimate features (N, d) of N rows of a split.

    Args:
        pretrained: The model.
        runtime: What computes.
        preprocessing: Preprocessing of the dataset.
        domain: The split.
        rows: Rows of the split (N,).
        report: Called with the number of cells done and the total.
    """
    device = pretrained.classifier.head.weight.device
    found, done = [], 0
    report(0, len(rows))
    for crops in stream_pixels(domain, crop_geometry(pretrained), rows, _ROWS_AT_ONCE):
        found.append(run_runtime(runtime, crops, preprocessing, device))
        done += len(crops)
        report(done, len(rows))
    return np.concatenate(found)


@torch.inference_mode()
def apply_head(classifier: Classifier, features: Floats) -> Floats:
    """Compute logits (N, 11) of features (N, d).

    The head is linear, so features may be averaged over views before it.
    """
    head = classifier.head
    logits: Floats = head(torch.from_numpy(features).to(head.weight.device)).cpu().numpy()
    return logits


def cached_conversion(
    facts: dict[str, object] | None, convert: Callable[[Path], None]
) -> Path | None:
    """Return the folder of a converted network, converting it on the first call.

    Conversions take longer than everything else, so they are kept in the datasets cache, as pixels
    are. `choose_runtime` compares cached conversions with torch like new ones.

    Args:
        facts: Everything that decides the conversion; its digest names the folder.
        convert: Writes the conversion into an empty folder.

    Returns:
        The folder; None without `facts` or when the cache cannot be written, in which case the
        caller converts the network each time.
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
    except (OSError, RuntimeError):  # OpenVINO reports a full disk as a RuntimeError
        return None
    return folder
