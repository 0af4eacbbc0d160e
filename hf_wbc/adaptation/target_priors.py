"""Estimate the target's class proportions during training, and derive importance weights.

Under label shift, p(x | y) does not change, so the mean prediction on the target is
mu = sum_y pi(y) C[y], where row y of C is the mean prediction on source samples of class y,
regardless of how often that class is drawn. BBSE (Lipton et al. 2018, arXiv:1802.03916) inverts
this equation. Here, each training step takes a few EM steps towards the pi that minimizes
KL(mu | C^T pi); these stay on the simplex and need no solver. As in RLLS (Azizzadenesheli et al.
2019, arXiv:1903.09734), pi is regularized towards the source's proportions, which has more effect
the less informative the predictions are. Source samples with weight pi(y) / pi_s(y) then have the
target's proportions (Tachet des Combes et al. 2020, arXiv:2003.04475, who solve a quadratic program
for the weights once per epoch).

A class that no source has keeps the proportion 0, because nothing is known about it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hf_wbc.adaptation.losses import all_gather_batch
from hf_wbc.adaptation.method import MethodOptions, ProperFraction

NUM_EM_STEPS = 10
"""EM steps in each training step, starting from the previous result."""


@dataclass(frozen=True)
class PriorOptions(MethodOptions):
    """Options of the estimate of the target's class proportions."""

    momentum: ProperFraction = 0.95
    """Factor by which the sums of predictions decay at each batch."""
    pull: ProperFraction = 0.01
    """Weight of the source's proportions in each EM step."""


def em_steps(
    pi: Tensor, rows: Tensor, mu: Tensor, towards: Tensor, pull: float, steps: int
) -> Tensor:
    """Return the class proportions (C,) after several regularized EM steps.

    Args:
        pi: Initial proportions (C,).
        rows: Mean predictions on each class (C, K).
        mu: Mean predictions on the target (K,).
        towards: Proportions (C,) to regularize towards.
        pull: Weight of `towards` in each step.
        steps: Number of steps.
    """
    for _ in range(steps):
        mixed = (rows * pi[:, None]).sum(0)
        pi = pi * (rows * (mu / mixed.clamp(min=1e-12))).sum(1)
        pi = (1 - pull) * pi / pi.sum() + pull * towards
    return pi


class RunningPriors(nn.Module):
    """Running estimate of the target's class proportions from predictions on source and target."""

    joint: Tensor
    """Decaying sum of predictions on source samples, in the row of each sample's label (C, C)."""
    predicted: Tensor
    """Decaying sum of predictions on the target (C,)."""
    pi: Tensor
    """The target's class proportions (C,); 0 for a class that no source has."""

    def __init__(self, present: Tensor, momentum: float, pull: float) -> None:
        """Start from equal proportions of the classes present.

        Args:
            present: Which classes any source has, bool (C,).
            momentum: Factor by which the sums of predictions decay at each batch.
            pull: Weight of the source's proportions in each EM step.
        """
        super().__init__()
        self.momentum, self.pull = momentum, pull
        # Equivalent to one correctly classified sample of each class.
        self.register_buffer("joint", torch.diag(present.float()))
        self.register_buffer("predicted", present.float())
        self.register_buffer("pi", present.float() / present.sum())

    @property
    def source(self) -> Tensor:
        """Class proportions of the source as sampled (C,)."""
        return self.joint.sum(1) / self.joint.sum()

    @torch.no_grad()
    def update(self, z_s: Tensor, labels: Tensor, z_t: Tensor) -> None:
        """Update the estimate with a batch.

        Args:
            z_s: Source logits (B_s, C).
            labels: Source labels (B_s,).
            z_t: Target logits (B_t, C).
        """
        p_s, p_t = (all_gather_batch(z.detach()).float().softmax(1) for z in (z_s, z_t))
        member = nn.functional.one_hot(all_gather_batch(labels), len(self.pi)).float()
        joint = (member[:, :, None] * p_s[:, None, :]).sum(0)
        self.joint.mul_(self.momentum).add_(joint)
        self.predicted.mul_(self.momentum).add_(p_t.sum(0))
        rows = self.joint / self.joint.sum(1, keepdim=True).clamp(min=1e-12)
        mu = self.predicted / self.predicted.sum()
        self.pi.copy_(em_steps(self.pi, rows, mu, self.source, self.pull, NUM_EM_STEPS))

    @torch.no_grad()
    def correct_for_priors(self, z_t: Tensor) -> Tensor:
        """Return probabilities (B, C) of logits, corrected for the target's class proportions.

        Probabilities are multiplied by pi / pi_s and normalized (Saerens et al. 2002); the ratio of
        a class that no source has is 1.
        """
        ratio = self.pi.clamp(min=1e-6) / self.source.clamp(min=1e-6)
        return (z_t.float() + ratio.log()).softmax(1)

    @torch.no_grad()
    def weights(self, labels: Tensor, max_weight: float) -> Tensor:
        """Return importance weights pi(y) / pi_s(y) of samples (B,).

        Weights are at most `max_weight`, then scaled to mean 1 over the source. Scaling to mean 1
        over the batch instead would bias weighted means towards the unweighted mean, more strongly
        for smaller batches.
        """
        ratio = (self.pi / self.source.clamp(min=1e-12)).clamp(max=max_weight)
        return ratio[labels] / (self.source * ratio).sum().clamp(min=1e-12)
