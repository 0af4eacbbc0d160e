"""GroupDRO: minimize the worst source domain's loss (Sagawa et al. 2020, arXiv:1911.08731, alg. 1).

The weights of the domains follow their losses by exponentiated gradient ascent.
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
    """Hyper-parameters of GroupDRO."""

    eta: NotNegative = 0.01
    """Step size of the domain weights."""


def update_domain_weights(q: Tensor, losses: Tensor, eta: float) -> Tensor:
    """Return the weights `q` (D,) times exp(eta * losses) (D,), normalized and without gradient."""
    return torch.softmax(q.log() + eta * losses.detach(), dim=0)


def group_dro_loss(losses: Tensor, q: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """Return the weighted loss of the domains and their new weights (arXiv:1911.08731, alg. 1).

    Args:
        losses: Mean loss of each source domain in the batch (D,).
        q: Current weights of the domains (D,), which sum to 1.
        eta: Step size of the weights.

    Returns:
        The loss () and the updated weights (D,).
    """
    q = update_domain_weights(q, losses, eta)
    return q @ losses, q


class GroupDRO(Method):
    """Distributionally robust optimization over source domains."""

    needs = Needs(num_sources=2)
    Options = Options
    paper = "Sagawa et al. 2020, arXiv:1911.08731"
    family = "generalization"
    limitations = (
        "one source is hard because its labels are noisy, which it then fits, or the target is "
        "not a mixture of the sources."
    )
    q: Tensor
    """Weights of the source domains (D,)."""

    def setup(self, info: TrainingInfo) -> None:
        """Start from equal domain weights."""
        super().setup(info)
        number = len(info.source_domains)
        self.register_buffer("q", torch.full((number,), 1 / number))

    def fit(self, batch: Batch) -> LossTerms:
        """Return the weighted loss of the domains, and the largest one."""
        source = batch.source
        logits = self.classifier(source.inputs).logits
        losses = self.supervised(logits, source.labels, source.domains)
        means, _ = domain_means(
            all_gather_batch(losses), all_gather_batch(source.domains), len(self.q)
        )
        loss, q = group_dro_loss(means, self.q, self.options.eta)
        self.q.copy_(q)
        return {"loss": loss, "worst": means.detach().amax()}


METHOD = GroupDRO
