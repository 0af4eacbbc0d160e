"""DANN: domain-adversarial training (Ganin et al. 2016, arXiv:1505.07818).

A discriminator learns to tell source from target; through gradient reversal the features learn to
confuse it. All sources together form one side, the target the other.
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
    """Hyper-parameters of DANN."""

    weight: NotNegative = 1.0
    """Weight of the discriminator's loss."""
    gamma: Positive = 10.0
    """Growth rate of the reversal strength, 2 / (1 + exp(-gamma * progress)) - 1."""
    width: Count = 1024
    """Width of the discriminator's two hidden layers."""


class Discriminator(nn.Module):
    """Perceptron: features (B, d) to the logit (B,) that a sample is from the source."""

    def __init__(self, num_features: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_features, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, 1),
        )  # fmt: skip

    def forward(self, features: Tensor) -> Tensor:
        """Return the domain logits (B,) of features (B, d)."""
        logits: Tensor = self.layers(features).squeeze(1)
        return logits


def domain_logits(
    discriminator: nn.Module, h_s: Tensor, h_t: Tensor, strength: float
) -> tuple[Tensor, Tensor]:
    """Return the domain logits of source (B_s,) and target (B_t,) in fp32, from a single pass.

    Gradients are reversed before the discriminator, so its inputs learn to confuse it.

    Args:
        discriminator: Maps (B, k) to domain logits (B,).
        h_s: Source inputs (B_s, k).
        h_t: Target inputs (B_t, k).
        strength: Strength of the gradient reversal, see `reverse_gradient`.
    """
    seen = reverse_gradient(torch.cat([h_s, h_t]), strength)
    z_s, z_t = discriminator(seen).float().split([len(h_s), len(h_t)])
    return z_s, z_t


def domain_adversarial_loss(
    z_s: Tensor, z_t: Tensor, w_s: Tensor | None = None, w_t: Tensor | None = None
) -> Tensor:
    """Return the binary cross-entropy of domain logits, with equal weight for both domains.

    The discriminator's loss of Ganin et al. 2016, arXiv:1505.07818. With logits from
    `domain_logits`, minimizing it trains the discriminator and its opponent at once.

    Args:
        z_s: Domain logits of source samples (B_s,); positive means source.
        z_t: Domain logits of target samples (B_t,).
        w_s: Weights of the source samples (B_s,), of mean 1 over the whole domain. They are not
            normalized within the batch, which would bias the mean over batches.
        w_t: Likewise of the target samples (B_t,).

    Returns:
        A scalar; ln 2 when the domains cannot be told apart.
    """
    loss_s = softplus(-z_s) if w_s is None else w_s * softplus(-z_s)
    loss_t = softplus(z_t) if w_t is None else w_t * softplus(z_t)
    return (loss_s.mean() + loss_t.mean()) / 2


class Dann(PenaltyMethod):
    """Domain-adversarial training."""

    needs = Needs(target=True, features=True)
    Options = Options
    penalty_name = "domain"
    paper = "Ganin et al. 2016, arXiv:1505.07818"
    limitations = "class proportions differ: it aligns them too, at the price of confusing classes."

    def setup(self, info: TrainingInfo) -> None:
        """Add the discriminator."""
        super().setup(info)
        self.discriminator = Discriminator(self.classifier.num_features, self.options.width)

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        """Return the domain-adversarial loss of the batch."""
        strength = reversal_strength(batch.progress, self.options.gamma)
        z_s, z_t = domain_logits(self.discriminator, output_s.features, output_t.features, strength)
        return domain_adversarial_loss(z_s, z_t, self.weights(output_s, output_t, batch))


METHOD = Dann
