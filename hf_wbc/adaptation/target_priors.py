"""The target's class proportions, followed while a classifier learns, and weights that follow them.

Under label shift p(x | y) stays, so the mean prediction on the target is mu = sum_y pi(y) C[y]: row
y of C is the mean prediction on source samples of class y, however often the class is drawn. BBSE
(Lipton et al. 2018, arXiv:1802.03916) inverts that equation; here a few steps of EM in every
training step go towards the pi with the least KL(mu | C^T pi), which stays on the simplex and needs
no solver. As in RLLS (Azizzadenesheli et al. 2019, arXiv:1903.09734) it is pulled towards the
source's proportions, the more so the less the predictions tell. Source samples of weight
pi(y) / pi_s(y) then have the target's proportions (Tachet des Combes et al. 2020, arXiv:2003.04475,
where a quadratic program solves for the weights once in an epoch).

A class that no source has keeps the proportion 0: nothing is known of it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hf_wbc.adaptation.losses import all_gather_batch
from hf_wbc.adaptation.method import MethodOptions, ProperFraction

NUM_EM_STEPS = 10
"""In each training step, from where the last ended."""


@dataclass(frozen=True)
class PriorOptions(MethodOptions):
    """Of the estimate of the target's class proportions."""

    momentum: ProperFraction = 0.95
    """What a batch counts after the next one, in the running means of predictions."""
    pull: ProperFraction = 0.01
    """Towards the source's proportions, in each EM step."""


def em_steps(
    pi: Tensor, rows: Tensor, mu: Tensor, towards: Tensor, pull: float, steps: int
) -> Tensor:
    """The proportions (C,) after steps of EM from `pi`, each with a pull `towards` others (C,).

    `rows` (C, K) are the mean predictions on each class, `mu` (K,) those on the target.
    """
    for _ in range(steps):
        mixed = (rows * pi[:, None]).sum(0)
        pi = pi * (rows * (mu / mixed.clamp(min=1e-12))).sum(1)
        pi = (1 - pull) * pi / pi.sum() + pull * towards
    return pi


class RunningPriors(nn.Module):
    """Follows both sides' predictions; a state of C x (C + 2) numbers."""

    joint: Tensor
    """Fading sum, over source samples, of the prediction in the row of the label (C, C)."""
    predicted: Tensor
    """Fading sum of the predictions on the target (C,)."""
    pi: Tensor
    """The target's class proportions (C,), 0 for a class that no source has."""

    def __init__(self, present: Tensor, momentum: float, pull: float) -> None:
        """`present` (C,) bool: the classes that any source has."""
        super().__init__()
        self.momentum, self.pull = momentum, pull
        # As if one sample of each class had come at first, and been recognised.
        self.register_buffer("joint", torch.diag(present.float()))
        self.register_buffer("predicted", present.float())
        self.register_buffer("pi", present.float() / present.sum())

    @property
    def source(self) -> Tensor:
        """Class proportions of the source as it is drawn (C,)."""
        return self.joint.sum(1) / self.joint.sum()

    @torch.no_grad()
    def update(self, z_s: Tensor, labels: Tensor, z_t: Tensor) -> None:
        """Take in a batch: logits (B_s, C) with labels (B_s,), and logits (B_t, C)."""
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
        """Probabilities (B, C) of logits, as if the classes had been learnt in those proportions.

        They are multiplied by pi / pi_s (Saerens et al. 2002); a class that no source has
        stays as it is.
        """
        ratio = self.pi.clamp(min=1e-6) / self.source.clamp(min=1e-6)
        return (z_t.float() + ratio.log()).softmax(1)

    @torch.no_grad()
    def weights(self, labels: Tensor, max_weight: float) -> Tensor:
        """pi(y) / pi_s(y) of samples (B,), at most `max_weight`, scaled to mean 1 over the source.

        Not over the batch: a mean under such weights would be drawn to the unweighted one, the
        more so the smaller the batch.
        """
        ratio = (self.pi / self.source.clamp(min=1e-12)).clamp(max=max_weight)
        return ratio[labels] / (self.source * ratio).sum().clamp(min=1e-12)
