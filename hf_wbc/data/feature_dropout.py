"""A strong view of embedded features: some entries are left out at random, the rest made larger.

Nothing is known of what an image's changes do to its features, so the view is that of dropout
(Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting"): the
same cell told by fewer of its features, right in expectation.
"""

import torch
from torch import Tensor

FRACTION = 0.2
"""Of the entries that are left out."""


def drop_features(features: Tensor, uniform: Tensor, fraction: float = FRACTION) -> Tensor:
    """Features (B, d): zero where the uniform number (B, d) is below `fraction`, else scaled up."""
    kept = (uniform >= fraction).to(features.dtype)
    return features * (kept / (1 - fraction))


def draw_dropout(num: int, num_features: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1), one row a sample (num, num_features), rows drawn in order."""
    return torch.rand(num, num_features, generator=generator, device=generator.device)
