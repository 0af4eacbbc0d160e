"""Saliency maps by integrated gradients, and the deletion test that checks them.

Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365): along the path from a blurred
copy of the crop, which shows no cell, to the crop itself, the gradient of the class's logit against
the other classes' is averaged and multiplied by the difference. The map is smoothed to a scale that
a person can point at.

Deletion test (after Petsiuk et al. 2018, arXiv:1806.07421): hide the marked pixels under a blur and
compare with hiding random patches of the same area and coarseness. If the class loses no more
probability than with the random patches, the map carries no information. Both explain the model,
not the cell.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

__all__ = ["DeletionTest", "deletion_curve", "deletion_test", "saliency_map"]

STEPS = 8
"""Steps of the path integral."""
BLUR_SHARE = 0.25
"""Width of the blur that hides the cell, as a share of the image's side."""
SMOOTH_SHARE = 0.06
"""Width of the smoothing, as a share of the image's side."""
LEVELS = 20
"""Steps of a deletion curve."""
SHARE = 0.2
"""Share of the image that the deletion test hides."""
NUM_OTHERS = 8
"""Random patches that the marked one is compared with."""

Logits = Callable[[Tensor], Tensor]
"""Maps images (B, 3, S, S) to logits (B, C)."""
Map = NDArray[np.float32]


def saliency_map(logits: Logits, inputs: Tensor, label: int) -> Map:
    """Compute how much each pixel supports a class.

    Args:
        logits: The model, with gradients.
        inputs: One normalized image (1, 3, S, S).
        label: The class to explain.

    Returns:
        The map (S, S) in [0, 1]; all 0 where nothing supports the class.
    """
    baseline = blurred(inputs, BLUR_SHARE)
    total = torch.zeros_like(inputs)
    for share in ((torch.arange(STEPS) + 0.5) / STEPS).to(inputs):
        image = (baseline + share * (inputs - baseline)).requires_grad_()
        out = logits(image)[0]
        others = torch.cat([out[:label], out[label + 1 :]])
        (gradient,) = torch.autograd.grad(out[label] - others.logsumexp(0), image)
        total += gradient
    heat = ((inputs - baseline) * total / STEPS).sum(1, keepdim=True).clamp_min(0)
    heat = blurred(heat, SMOOTH_SHARE)[0, 0]
    found: Map = (heat / heat.max().clamp_min(1e-12)).detach().cpu().numpy()
    return found


@torch.no_grad()
def deletion_curve(logits: Logits, inputs: Tensor, label: int, order: Map) -> list[float]:
    """Compute the class's probability while its pixels are hidden, highest `order` first.

    Args:
        logits: The model.
        inputs: One normalized image (1, 3, S, S).
        label: The class.
        order: Priority of each pixel (S, S); a good map makes the curve fall faster than a random
            order does.

    Returns:
        LEVELS + 1 probabilities, with 0, 1 / LEVELS, ... and all of the pixels hidden.
    """
    baseline = blurred(inputs, BLUR_SHARE)
    positions = np.argsort(np.argsort(-order.reshape(-1), kind="stable"), kind="stable")
    ranks = positions.reshape(order.shape) / order.size
    visible = torch.from_numpy(np.stack([ranks >= i / LEVELS for i in range(LEVELS + 1)]))
    images = torch.where(visible[:, None].to(inputs.device), inputs, baseline)
    probabilities: list[float] = (
        torch.cat([logits(one[None]) for one in images]).softmax(1)[:, label].tolist()
    )
    return probabilities


@dataclass(frozen=True)
class DeletionTest:
    """Probabilities of a class for the whole image and with a SHARE of it hidden."""

    original: float
    """With nothing hidden."""
    marked_hidden: float
    """With the pixels hidden that the map marks."""
    random_hidden: tuple[float, ...]
    """With each of the random patches hidden."""

    @property
    def mean_random_hidden(self) -> float:
        """Mean over the random patches."""
        return sum(self.random_hidden) / len(self.random_hidden)

    @property
    def passed(self) -> bool:
        """Whether hiding the marked pixels lowers the probability more than random patches do."""
        return self.marked_hidden < min(self.original, self.mean_random_hidden)


@torch.no_grad()
def deletion_test(
    logits: Logits, inputs: Tensor, label: int, heat: NDArray[np.float32]
) -> DeletionTest:
    """Test whether a saliency map marks what the model uses.

    Args:
        logits: The model.
        inputs: One normalized image (1, 3, S, S).
        label: The class that the map explains.
        heat: The map (S, S).
    """
    baseline = blurred(inputs, BLUR_SHARE)
    noise = torch.rand((NUM_OTHERS, 1, *heat.shape), generator=torch.Generator().manual_seed(0))
    orders = torch.cat([torch.from_numpy(heat)[None], blurred(noise, SMOOTH_SHARE)[:, 0]])
    positions = orders.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    visible = (positions >= round(SHARE * heat.size)).reshape(-1, 1, *heat.shape)
    images = torch.cat([inputs, torch.where(visible.to(inputs.device), inputs, baseline)])
    original, marked, *others = logits(images).softmax(1)[:, label].tolist()
    return DeletionTest(original, marked, tuple(others))


def blurred(images: Tensor, share: float) -> Tensor:
    """Blur images (B, C, S, S) by `share` of their side with three box filters."""
    width = max(1, round(share * images.shape[-1] / 3)) | 1
    for _ in range(3):
        images = avg_pool2d(images, width, 1, width // 2, count_include_pad=False)
    return images
