"""DANN: features that do not tell a discriminator the domain (Ganin et al. 2016, arXiv:1505.07818).

A discriminator learns to tell source from target; through gradient reversal the features learn to
confuse it. All sources together are one side, the target is the other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from hf_wbc.adaptation.losses import reversal_strength, reverse_gradient
from hf_wbc.adaptation.method import (
    Count,
    MethodOptions,
    Needs,
    NotNegative,
    PenaltyMethod,
    Positive,
    TrainingInfo,
)
from hf_wbc.data.batch import Batch
from hf_wbc.models import Output


@dataclass(frozen=True)
class Options(MethodOptions):
    """Of DANN."""

    weight: NotNegative = 1.0
    """Of the discriminator's loss."""
    gamma: Positive = 10.0
    """How fast the reversal grows: its strength is 2 / (1 + exp(-gamma progress)) - 1."""
    width: Count = 1024
    """Of the discriminator's two hidden layers."""


class Discriminator(nn.Module):
    """Features (B, d) to the logit (B,) that a sample is the source's."""

    def __init__(self, num_features: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_features, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, 1),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.layers(features).squeeze(1)
        return logits


def domain_logits(
    discriminator: nn.Module, h_s: Tensor, h_t: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    """Domain logits (B_s,) and (B_t,) in fp32, of what the discriminator sees, in one pass.

    Behind it gradients are reversed: what it sees learns to confuse it.
    """
    seen = reverse_gradient(torch.cat([h_s, h_t]), strength)
    z_s, z_t = discriminator(seen).float().split([len(h_s), len(h_t)])
    return z_s, z_t


def domain_adversarial_loss(
    z_s: Tensor, z_t: Tensor, w_s: Tensor | None = None, w_t: Tensor | None = None
) -> Tensor:
    """Binary cross-entropy of domain logits (B_s,) and (B_t,), the domains of equal weight.

    `w_s` (B_s,) and `w_t` (B_t,) are weights of the samples, of mean 1 over the whole domain: they
    are not normalised within the batch, which would bias the mean over batches.
    """
    loss_s = softplus(-z_s) if w_s is None else w_s * softplus(-z_s)
    loss_t = softplus(z_t) if w_t is None else w_t * softplus(z_t)
    return (loss_s.mean() + loss_t.mean()) / 2


class Dann(PenaltyMethod):
    needs = Needs(target=True, features=True)
    Options = Options
    penalty_name = "domain"
    paper = "Ganin et al. 2016, arXiv:1505.07818"
    limitations = "class proportions differ: it aligns them too, and must mistake classes for it."

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        self.discriminator = Discriminator(self.classifier.num_features, self.options.width)

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        strength = reversal_strength(batch.progress, self.options.gamma)
        z_s, z_t = domain_logits(self.discriminator, output_s.features, output_t.features, strength)
        return domain_adversarial_loss(z_s, z_t, self.weights(output_s, output_t, batch))


METHOD = Dann
