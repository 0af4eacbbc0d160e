"""Features times predictions, which CDAN's discriminator sees (Long et al. 2018, arXiv:1705.10667).

Where the product would be too wide, a random map of it keeps inner products on average.
"""

import math

import torch
from torch import Tensor, nn

LARGEST_PRODUCT = 4096
"""Of classes times features; above it the product is projected at random."""
RANDOM_WIDTH = 1024


def product(f: Tensor, p: Tensor) -> Tensor:
    """Features (B, d) times softmax (B, C), as (B, C * d): a block of features for each class."""
    return (p[:, :, None] * f[:, None, :]).flatten(1)


def random_product(f: Tensor, p: Tensor, r_f: Tensor, r_p: Tensor) -> Tensor:
    """(B, d) and (B, C) to (B, k), by fixed normal matrices (d, k) and (C, k).

    Inner products are in expectation those of `product`.
    """
    return (f @ r_f) * (p @ r_p) / math.sqrt(r_f.shape[1])


class Multilinear(nn.Module):
    """Features (B, d) and softmax (B, C) to their product, or to a random map of it."""

    r_f: Tensor
    """Of a random map (d, k); drawn once, and saved."""
    r_p: Tensor
    """Likewise (C, k)."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.random = num_features * num_classes > LARGEST_PRODUCT
        self.width = RANDOM_WIDTH if self.random else num_features * num_classes
        if self.random:
            self.register_buffer("r_f", torch.randn(num_features, RANDOM_WIDTH))
            self.register_buffer("r_p", torch.randn(num_classes, RANDOM_WIDTH))

    def forward(self, f: Tensor, p: Tensor) -> Tensor:
        return random_product(f, p, self.r_f, self.r_p) if self.random else product(f, p)
