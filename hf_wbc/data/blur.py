"""Gaussian blur of a whole batch, every sample by its own width; beyond the edge it is mirrored.

Two passes of shifted sums: exact on every device, and a width of zero leaves an image as it is.
"""

import math

import torch
from torch import Tensor

_REACH = 4.0
"""Standard deviations after which the kernel ends."""


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Images (B, C, H, W) float32 blurred by `sigma` (B,) pixels, on the CPU, in both directions.

    The edge pixel is repeated once (c b a | a b c), as `scipy.ndimage` does in mode "reflect".
    """
    widest = float(sigma.max())
    if not widest:
        return images
    kernels = _kernels(sigma, math.ceil(_REACH * widest)).to(images.device, non_blocking=True)
    return _along(_along(images.contiguous(), kernels, 3), kernels, 2)


def _kernels(sigma: Tensor, reach: int) -> Tensor:
    """Weights (2 * reach + 1, B, 1, 1, 1) that sum to one; of no width, all on the middle."""
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    width = sigma.double().clamp(min=1e-12)[:, None]
    weights = (-0.5 * (places / width) ** 2).exp()
    weights = weights / weights.sum(1, keepdim=True)
    return weights.T.float()[:, :, None, None, None]


def _along(images: Tensor, kernels: Tensor, axis: int) -> Tensor:
    """The weighted sum of shifted images, along one axis."""
    length, reach = images.shape[axis], len(kernels) // 2
    places = torch.arange(-reach, length + reach, device=images.device) % (2 * length)
    places = torch.where(places < length, places, 2 * length - 1 - places)
    padded = images.index_select(axis, places)
    blurred = padded.narrow(axis, 0, length) * kernels[0]
    for shift, weight in enumerate(kernels[1:], start=1):
        blurred.addcmul_(padded.narrow(axis, shift, length), weight)
    return blurred
