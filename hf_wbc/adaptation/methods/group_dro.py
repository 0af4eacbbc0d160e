"""GroupDRO: the worst source domain counts most (Sagawa et al. 2020, arXiv:1911.08731, alg. 1).

The weights of domains follow their losses by exponentiated gradient ascent.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_wbc.adaptation.losses import all_gather_batch, domain_means
from hf_wbc.adaptation.method import (
    LossTerms,
    Method,
    MethodOptions,
    Needs,
    NotNegative,
    TrainingInfo,
)
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(MethodOptions):
    eta: NotNegative = 0.01
    """Step of the domains' weights."""


def update_domain_weights(q: Tensor, losses: Tensor, eta: float) -> Tensor:
    """Weights q (D,) times exp(eta * losses) (D,), normalised; no gradient."""
    return torch.softmax(q.log() + eta * losses.detach(), dim=0)


class GroupDRO(Method):
    needs = Needs(num_sources=2)
    Options = Options
    paper = "Sagawa et al. 2020, arXiv:1911.08731"
    family = "generalisation"
    limitations = (
        "one source is hard because its labels are noisy, which it then fits; and the target is "
        "no mixture of the sources."
    )
    q: Tensor
    """Weights of the source domains (D,)."""

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        number = len(info.source_domains)
        self.register_buffer("q", torch.full((number,), 1 / number))

    def fit(self, batch: Batch) -> LossTerms:
        source = batch.source
        logits = self.classifier(source.inputs).logits
        losses = self.supervised(logits, source.labels, source.domains)
        means, _ = domain_means(
            all_gather_batch(losses), all_gather_batch(source.domains), len(self.q)
        )
        q = update_domain_weights(self.q, means, self.options.eta)
        self.q.copy_(q)
        return {"loss": q @ means, "worst": means.detach().amax()}


METHOD = GroupDRO
