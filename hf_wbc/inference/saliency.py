"""Which pixels speak for a class: integrated gradients (Sundararajan et al. 2017, 1703.01365).

From a blurred copy of the square, which shows no cell, to the square itself, the gradient of the
class's logit against the others' is added up and multiplied by what changes. The map is smoothed to
the size of what a person can point at. It is an explanation of the model, not of the cell; whether
it is one at all is what the deletion test says (Petsiuk et al. 2018, arXiv:1806.07421).

Whether a saliency map marks what a model looks at: hide that, and ask again.

The deletion test (Petsiuk et al. 2018, arXiv:1806.07421) of one cell at one share of its picture.
What a map marks is hidden by a blur in which no cell is left, and so are patches of the same size
and coarseness elsewhere: when the class loses no more by the first than by the others, the map says
nothing."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

STEPS = 8
BLUR_SHARE = 0.25
"""Width of the blur that hides the cell, of the square's side."""
SMOOTH_SHARE = 0.06
"""Width of the smoothing, of the square's side."""
LEVELS = 20
"""Of a deletion curve."""
Logits = Callable[[Tensor], Tensor]
Map = NDArray[np.float32]


def saliency_map(logits: Logits, inputs: Tensor, label: int) -> Map:
    """Of one image (1, 3, S, S) as the model takes it, (S, S) in [0, 1].

    `logits` maps (B, 3, S, S) to (B, C), with gradients. 0 where nothing speaks for the class.
    """
    hidden = blurred(inputs, BLUR_SHARE)
    total = torch.zeros_like(inputs)
    for share in ((torch.arange(STEPS) + 0.5) / STEPS).to(inputs):
        image = (hidden + share * (inputs - hidden)).requires_grad_()
        out = logits(image)[0]
        others = torch.cat([out[:label], out[label + 1 :]])
        (gradient,) = torch.autograd.grad(out[label] - others.logsumexp(0), image)
        total += gradient
    heat = ((inputs - hidden) * total / STEPS).sum(1, keepdim=True).clamp_min(0)
    heat = blurred(heat, SMOOTH_SHARE)[0, 0]
    found: Map = (heat / heat.max().clamp_min(1e-12)).detach().cpu().numpy()
    return found


@torch.no_grad()
def deletion_curve(logits: Logits, inputs: Tensor, label: int, order: Map) -> list[float]:
    """The class's probability as its pixels are hidden, those of the highest `order` (S, S) first.

    At 0, 1 / LEVELS, ... and all of them hidden. A map is worth something when this falls faster
    than for a random order.
    """
    hidden = blurred(inputs, BLUR_SHARE)
    places = np.argsort(np.argsort(-order.reshape(-1), kind="stable"), kind="stable")
    ranks = places.reshape(order.shape) / order.size
    kept = torch.from_numpy(np.stack([ranks >= i / LEVELS for i in range(LEVELS + 1)]))
    images = torch.where(kept[:, None].to(inputs.device), inputs, hidden)
    chances: list[float] = (
        torch.cat([logits(one[None]) for one in images]).softmax(1)[:, label].tolist()
    )
    return chances


def blurred(images: Tensor, share: float) -> Tensor:
    """Images (B, C, S, S) under a blur of `share` of their side: three box filters."""
    width = max(1, round(share * images.shape[-1] / 3)) | 1
    for _ in range(3):
        images = avg_pool2d(images, width, 1, width // 2, count_include_pad=False)
    return images


SHARE = 0.2
"""Of the picture that is hidden."""
NUM_OTHERS = 8
"""Random patches that the marked one is compared with."""


@dataclass(frozen=True)
class DeletionTest:
    """The class's probability with the whole picture, and with a SHARE of it hidden."""

    whole: float
    without_marked: float
    without_others: tuple[float, ...]
    """Of each of the random patches."""

    @property
    def without_random(self) -> float:
        """The mean over the random patches."""
        return sum(self.without_others) / len(self.without_others)

    @property
    def passed(self) -> bool:
        """Hiding what is marked costs the class more than hiding the others does on average."""
        return self.without_marked < min(self.whole, self.without_random)


@torch.no_grad()
def deletion_test(
    logits: Logits, inputs: Tensor, label: int, heat: NDArray[np.float32]
) -> DeletionTest:
    """Of a map (S, S) of one image (1, 3, S, S); `logits` maps (B, 3, S, S) to (B, C)."""
    hidden = blurred(inputs, BLUR_SHARE)
    noise = torch.rand((NUM_OTHERS, 1, *heat.shape), generator=torch.Generator().manual_seed(0))
    orders = torch.cat([torch.from_numpy(heat)[None], blurred(noise, SMOOTH_SHARE)[:, 0]])
    places = orders.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    kept = (places >= round(SHARE * heat.size)).reshape(-1, 1, *heat.shape).to(inputs.device)
    images = torch.cat([inputs, torch.where(kept, inputs, hidden)])
    whole, marked, *others = logits(images).softmax(1)[:, label].tolist()
    return DeletionTest(whole, marked, tuple(others))
