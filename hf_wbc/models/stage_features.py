"""Features of all stages of a convolutional network, for a head that needs more than the last ones.

The last features were trained for the class alone; color, shape and size of a cell are still in the
maps of earlier stages. Each map is pooled to its mean and its maximum over the pixels.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hf_wbc.models.classifier import Classifier

__all__ = ["num_stage_features", "stage_features"]


@torch.inference_mode()
def stage_features(classifier: Classifier, images: Tensor) -> Tensor:
    """Compute the pooled maps of all stages but the first, and the penultimate features.

    Not thread-safe, as hooks are attached to the network for one pass.

    Args:
        classifier: A classifier in evaluation mode. A network without stages, such as a ViT, gives
            the penultimate features only.
        images: Images (B, 3, H, W).

    Returns:
        Features (B, s), of which the last d are the penultimate ones.
    """
    pooled: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            pooled.append(torch.cat([output.mean((2, 3)), output.amax((2, 3))], 1))

    network = getattr(classifier.model, "timm_model", classifier.model)
    blocks = list(getattr(network, "blocks", ()))
    hooks = [block.register_forward_hook(keep) for block in blocks[1:]]
    try:
        features = classifier(images).features
    finally:
        for hook in hooks:
            hook.remove()
    return torch.cat([*pooled, features], 1)


def num_stage_features(classifier: Classifier, size: int) -> int:
    """Return the width s of the features of images of size x size pixels."""
    device = classifier.head.weight.device
    return stage_features(classifier, torch.zeros(1, 3, size, size, device=device)).shape[1]
