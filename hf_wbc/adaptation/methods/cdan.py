"""CDAN: a discriminator that sees features times predictions (Long et al. 2018, arXiv:1705.10667).

As DANN, but what has to look alike is each class's features, as far as predictions tell the class.
With entropy (CDAN+E) samples of sure predictions weigh more, up to twice. No gradient goes through
the predictions. All sources together are one side, the target is the other.
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
    """Of CDAN."""

    weight: NotNegative = 1.0
    """Of the discriminator's loss."""
    entropy: bool = False
    """CDAN+E: each sample weighs 1 + exp(-entropy of its prediction)."""
    gamma: Positive = 10.0
    """How fast the reversal grows: its strength is 2 / (1 + exp(-gamma progress)) - 1."""
    width: Count = 1024
    """Of the discriminator's two hidden layers."""


def entropy_weights(p: Tensor) -> Tensor:
    """1 + exp(-entropy) of softmax outputs (B, C), as (B,): from 1 + 1/C to 2."""
    return 1 + torch.exp(-torch.special.entr(p).sum(1))


class Cdan(PenaltyMethod):
    needs = Needs(target=True, features=True)
    Options = Options
    penalty_name = "domain"
    paper = "Long et al. 2018, arXiv:1705.10667"
    limitations = "class proportions differ, or first predictions on the target are mostly wrong."

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        self.map = MultilinearMap(self.classifier.num_features, self.supervised.num_present)
        self.discriminator = Discriminator(self.map.width, self.options.width)

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        h_s, w_s = self.joint(output_s)
        h_t, w_t = self.joint(output_t)
        strength = reversal_strength(batch.progress, self.options.gamma)
        z_s, z_t = domain_logits(self.discriminator, h_s, h_t, strength)
        return domain_adversarial_loss(z_s, z_t, w_s, w_t)

    def joint(self, output: Output) -> tuple[Tensor, Tensor | None]:
        """What the discriminator sees of a domain (B, k), and weights (B,) with --entropy."""
        p = self.supervised.select_present(output.logits.detach()).float().softmax(1)
        h = self.map(output.features, p)
        if not self.options.entropy:
            return h, None
        w = entropy_weights(p)
        return h, w / all_gather_batch(w).mean()


METHOD = Cdan
