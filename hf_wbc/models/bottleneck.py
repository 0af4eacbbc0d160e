"""A linear bottleneck before the head, which is folded into the head when the model is saved.

Methods that align features need features that can move. On a frozen backbone nothing before the
head can, so they get `BatchNorm -> Linear`, as SHOT's "bn" bottleneck (Liang et al. 2020,
arXiv:2002.08546) the other way round: each embedded feature is standardised, then projected. All of
it is affine in evaluation mode, so bottleneck and head together are one linear head, and what
others load is the plain transformers model.
"""

import torch
from torch import Tensor, nn

from hf_wbc.models.seeded import seeded


class Bottleneck(nn.Module):
    """Features (B, d) standardised and projected to (B, k), with a head of its own."""

    def __init__(self, num_features: int, width: int, num_labels: int, seed: int) -> None:
        """Weights are drawn from the seed. ValueError for a width below 1."""
        super().__init__()
        if width < 1:
            raise ValueError(f"bottleneck is {width}; it must be at least 1, or 0 for none")
        with seeded(seed):
            self.norm = nn.BatchNorm1d(num_features)
            self.project = nn.Linear(num_features, width)
            self.head = nn.Linear(width, num_labels)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, k), the head's input."""
        projected: Tensor = self.project(self.norm(features))
        return projected

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The linear layer (d to labels) that gives the same logits in evaluation mode."""
        norm, mean, var = self.norm, self.norm.running_mean, self.norm.running_var
        assert mean is not None and var is not None
        scale = norm.weight.double() / (var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - mean.double() * scale
        mixed = self.head.weight.double() @ self.project.weight.double()
        bias = self.head.weight.double() @ self.project.bias.double() + self.head.bias.double()
        made = nn.Linear(self.project.in_features, self.head.out_features, device=mixed.device)
        made.weight.copy_(mixed * scale)
        made.bias.copy_(bias + mixed @ shift)
        return made
