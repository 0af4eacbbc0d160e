"""CDAN: a discriminator of features times predictions (Long et al. 2018, arXiv:1705.10667).

As DANN, but the discriminator sees the outer product of features and class probabilities, so that
features have to match class by class, as far as predictions reveal the class. With entropy
conditioning (CDAN+E), confident samples weigh up to twice as much. No gradient flows through the
predictions. All sources together form one side, the target the other.

The loss is `domain_adversarial_loss` on the domain logits of a `MultilinearMap`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_wbc.adaptation.losses import MultilinearMap, all_gather_batch, reversal_strength
from hf_wbc.adaptation.method import (
    Count,
    MethodOptions,
    Needs,
    NotNegative,
    PenaltyMethod,
    Positive,
    TrainingInfo,
)
from hf_wbc.adaptation.methods.dann import Discriminator, domain_adversarial_loss, domain_logits
from hf_wbc.data.batch import Batch
from hf_wbc.models import Output


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of CDAN."""

    weight: NotNegative = 1.0
    """Weight of the discriminator's loss."""
    entropy: bool = False
    """Use CDAN+E: weight each sample by 1 + exp(-entropy of its prediction)."""
    gamma: Positive = 10.0
    """Growth rate of the reversal strength, 2 / (1 + exp(-gamma * progress)) - 1."""
    width: Count = 1024
    """Width of the discriminator's two hidden layers."""


def entropy_weights(p: Tensor) -> Tensor:
    """Return 1 + exp(-entropy) (B,), in [1 + 1/C, 2], of softmax outputs `p` (B, C)."""
    return 1 + torch.exp(-torch.special.entr(p).sum(1))


class Cdan(PenaltyMethod):
    """Conditional domain-adversarial training."""

    needs = Needs(target=True, features=True)
    Options = Options
    penalty_name = "domain"
    paper = "Long et al. 2018, arXiv:1705.10667"
    limitations = "class proportions differ, or early predictions on the target are mostly wrong."

    def setup(self, info: TrainingInfo) -> None:
        """Add the multilinear map and the discriminator."""
        super().setup(info)
        self.map = MultilinearMap(self.classifier.num_features, self.supervised.num_present)
        self.discriminator = Discriminator(self.map.width, self.options.width)

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        """Return the domain-adversarial loss of the multilinear maps."""
        h_s, w_s = self.joint(output_s)
        h_t, w_t = self.joint(output_t)
        strength = reversal_strength(batch.progress, self.options.gamma)
        z_s, z_t = domain_logits(self.discriminator, h_s, h_t, strength)
        return domain_adversarial_loss(z_s, z_t, w_s, w_t)

    def joint(self, output: Output) -> tuple[Tensor, Tensor | None]:
        """Return the discriminator's input (B, k), and sample weights (B,) for CDAN+E."""
        p = self.supervised.select_present(output.logits.detach()).float().softmax(1)
        h = self.map(output.features, p)
        if not self.options.entropy:
            return h, None
        w = entropy_weights(p)
        return h, w / all_gather_batch(w).mean()


METHOD = Cdan
