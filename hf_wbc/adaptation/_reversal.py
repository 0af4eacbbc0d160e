"""Gradient reversal (Ganin et al. 2016, arXiv:1505.07818): one optimizer for two opponents.

What follows the reversal learns to tell the domains apart, what precedes it to confuse them.
"""

import math
from typing import Any

import torch
from torch import Tensor


class _Reversal(torch.autograd.Function):
    """Identity forward, gradient times -strength backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reverse(values: Tensor, strength: float) -> Tensor:
    """The values themselves; their gradient is that of what follows, times -strength."""
    reversed_: Tensor = _Reversal.apply(values, strength)
    return reversed_


def reversal_strength(progress: float, gamma: float) -> float:
    """From 0 at progress 0 towards 1, the faster the larger gamma: 2 / (1 + exp(-gamma p)) - 1."""
    return math.tanh(gamma * progress / 2)
