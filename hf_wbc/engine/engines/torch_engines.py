"""Torch itself: as it is, which every other engine is measured by, or compiled."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from hf_wbc.engine.engines.contract import Engine, Features, Precision, backbone_of
from hf_wbc.engine.forward import PIXELS_AT_ONCE
from hf_wbc.models import Classifier

COMPILED_BATCH = 16
"""Fixed, so that one compilation serves; smaller batches are filled up."""
ON_A_GPU = 64


def eager(
    classifier: Classifier, size: int, precision: Precision = "fp32", key: str | None = None
) -> Engine:
    """The network as it is; it always works, and keeps nothing."""
    on_cpu = classifier.head.weight.device.type == "cpu"
    batch_size = max(1, PIXELS_AT_ONCE // size**2) if on_cpu else ON_A_GPU
    features = _features(backbone_of(classifier), precision)
    return Engine("torch", precision, features, torch.__version__, batch_size)


def compiled(
    classifier: Classifier, size: int, precision: Precision = "fp32", key: str | None = None
) -> Engine:
    """Through torch.compile: seconds to a minute before the first answer, for many images."""
    run = _features(torch.compile(backbone_of(classifier), dynamic=False), precision)

    def features(inputs: Tensor) -> Tensor:
        parts = []
        for part in torch.split(inputs, COMPILED_BATCH):
            missing = COMPILED_BATCH - len(part)
            filled = torch.cat([part, part[:1].expand(missing, -1, -1, -1)])
            parts.append(run(filled)[: len(part)])
        return torch.cat(parts)

    return Engine("compile", precision, features, torch.__version__, COMPILED_BATCH)


def _features(network: Callable[[Tensor], Tensor], precision: Precision) -> Features:
    @torch.inference_mode()
    def features(inputs: Tensor) -> Tensor:
        with _casting(inputs.device, precision):
            found: Tensor = network(inputs)
        return found.float()

    return features


def _casting(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)
