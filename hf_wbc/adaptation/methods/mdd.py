"""MDD: margin disparity discrepancy (Zhang et al. 2019, arXiv:1904.05801).

A second head learns to agree with the classifier on the source, weighted by gamma, and to disagree
with it on the target. Through gradient reversal the features learn to make that impossible. All
sources together form one side, the target the other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

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

GAMMA_OF_STRENGTH = 10.0
"""Growth rate of the reversal strength, as in DANN."""


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of MDD."""

    weight: NotNegative = 1.0
    """Weight of the second head's loss."""
    gamma: Positive = 4.0
    """Weight of the agreement on the source; the margin is ln gamma."""
    strength: NotNegative = 0.1
    """Strength of the gradient reversal at the end of training; it grows from 0."""
    width: Count = 1024
    """Width of the second head's hidden layer."""


def mdd_loss(z_s: Tensor, adv_s: Tensor, z_t: Tensor, adv_t: Tensor, gamma: float) -> Tensor:
    """Return the loss of the second head, the negative margin disparity discrepancy.

    Zhang et al. 2019, arXiv:1904.05801: gamma times -log p(y) on the source plus
    -log(1 - p(y)) on the target, where y is the class that the classifier predicts and p the
    softmax of the second head's logits.

    Args:
        z_s: The classifier's source logits (B_s, C).
        adv_s: The second head's source logits (B_s, C).
        z_t: The classifier's target logits (B_t, C).
        adv_t: The second head's target logits (B_t, C).
        gamma: Weight of the source term.

    Returns:
        A nonnegative scalar.
    """
    y_s, y_t = z_s.argmax(1, keepdim=True), z_t.argmax(1, keepdim=True)
    agree = adv_s.logsumexp(1) - adv_s.gather(1, y_s).squeeze(1)
    others = adv_t.scatter(1, y_t, -torch.inf)
    disagree = adv_t.logsumexp(1) - others.logsumexp(1)
    return gamma * agree.mean() + disagree.mean()


class Mdd(PenaltyMethod):
    """Minimizes the margin disparity discrepancy with a second head."""

    needs = Needs(target=True, features=True)
    Options = Options
    penalty_name = "disparity"
    paper = "Zhang et al. 2019, arXiv:1904.05801"
    limitations = "class proportions differ: it splits frequent classes to fill rare ones."

    def setup(self, info: TrainingInfo) -> None:
        """Add the second head."""
        super().setup(info)
        width = self.options.width
        self.adversary = nn.Sequential(
            nn.Linear(self.classifier.num_features, width),
            nn.ReLU(),
            nn.Linear(width, self.supervised.num_present),
        )

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        """Return the loss of the second head, with reversed gradients to the features."""
        strength = self.options.strength * reversal_strength(batch.progress, GAMMA_OF_STRENGTH)
        features = reverse_gradient(torch.cat([output_s.features, output_t.features]), strength)
        sizes = [len(output_s.features), len(output_t.features)]
        adv_s, adv_t = self.adversary(features).float().split(sizes)
        z_s, z_t = (
            self.supervised.select_present(output.logits) for output in (output_s, output_t)
        )
        return mdd_loss(z_s, adv_s, z_t, adv_t, self.options.gamma)


METHOD = Mdd
