"""Pixels to the numbers that a model expects: one slope and one offset a channel.

Mean and std are those of one checkpoint for the whole batch, or of each sample's own domain.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Levels = Sequence[float] | Tensor
"""A value a channel, (3,), or one a channel of each sample, (B, 3), for intensities in [0, 1]."""
_CACHED_BYTES = 2**20
"""Float images that go together through all operations on a CPU, so that its cache holds them."""


def normalise(pixels: Tensor, mean: Levels, std: Levels) -> Tensor:
    """Pixels (B, H, W, 3) uint8 to (x / 255 - mean) / std, (B, 3, H, W) float32."""
    num, height, width, _ = pixels.shape
    images = torch.empty(num, 3, height, width, device=pixels.device)
    normal = slope_and_offset(mean, std, num).float().to(pixels.device, non_blocking=True)
    slope, offset = normal[:, :, :, None, None].unbind(1)
    for some in cached_slices(pixels):
        part = images[some].copy_(pixels[some].permute(0, 3, 1, 2))
        part.mul_(slope[some]).add_(offset[some])
    return images


def slope_and_offset(mean: Levels, std: Levels, num: int) -> Tensor:
    """What takes 0..255 to normalised intensities, (num, 2, 3) float64, on the CPU."""
    mean, std = (torch.as_tensor(level, dtype=torch.float64, device="cpu") for level in (mean, std))
    return torch.stack([1 / (255 * std), -mean / std], -2).expand(num, 2, 3)


def cached_slices(pixels: Tensor) -> list[slice]:
    """A CPU takes a batch in cache-sized parts, any other device at once."""
    num = len(pixels)
    step = max(1, _CACHED_BYTES // (4 * pixels[0].numel())) if pixels.is_cpu else max(1, num)
    return [slice(first, first + step) for first in range(0, num, step)]
