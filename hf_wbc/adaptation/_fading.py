"""Means of features that forget: sums that fade by samples, each with the number it is a sum of."""

import torch
from torch import Tensor


def fading(sums: Tensor, f: Tensor, member: Tensor, theta: float) -> Tensor:
    """The next fading sums (K, d + 1) of features (B, d), and of ones, under `member` (B, K)."""
    with torch.autocast(f.device.type, enabled=False):
        return theta * sums + member.T @ torch.cat([f, torch.ones_like(f[:, :1])], dim=1)


def means(sums: Tensor) -> tuple[Tensor, Tensor]:
    """The means (K, d) in fading sums (K, d + 1), 0 of no sample, and of how many they are (K,)."""
    seen = sums[:, -1]
    return sums[:, :-1] / seen.clamp(min=1e-6)[:, None], seen
