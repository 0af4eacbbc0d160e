"""Whether a saliency map marks what a model looks at: hide that, and ask again.

The deletion test (Petsiuk et al. 2018, arXiv:1806.07421) of one cell at one share of its picture.
What a map marks is hidden by a blur in which no cell is left, and so are patches of the same size
and coarseness elsewhere: when the class loses no more by the first than by the others, the map says
nothing.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_wbc.engine.saliency import BLUR_SHARE, SMOOTH_SHARE, Logits, blurred

SHARE = 0.2
"""Of the picture that is hidden."""
NUM_OTHERS = 8
"""Random patches that the marked one is compared with."""


@dataclass(frozen=True)
class Deletion:
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
def deletion(logits: Logits, inputs: Tensor, label: int, heat: NDArray[np.float32]) -> Deletion:
    """Of a map (S, S) of one image (1, 3, S, S); `logits` maps (B, 3, S, S) to (B, C)."""
    hidden = blurred(inputs, BLUR_SHARE)
    noise = torch.rand((NUM_OTHERS, 1, *heat.shape), generator=torch.Generator().manual_seed(0))
    orders = torch.cat([torch.from_numpy(heat)[None], blurred(noise, SMOOTH_SHARE)[:, 0]])
    places = orders.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    kept = (places >= round(SHARE * heat.size)).reshape(-1, 1, *heat.shape).to(inputs.device)
    images = torch.cat([inputs, torch.where(kept, inputs, hidden)])
    whole, marked, *others = logits(images).softmax(1)[:, label].tolist()
    return Deletion(whole, marked, tuple(others))
