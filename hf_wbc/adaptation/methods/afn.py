"""SAFN: let the norm of every feature grow step by step (Xu et al. 2019, arXiv:1811.07456).

Target features have smaller norms than source features and transfer badly. Each sample's norm is
pulled towards its current value plus delta. The mean is over the samples of both domains, as in the
paper's formula; the authors' code adds one mean per domain, which is twice as much.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_wbc.adaptation.method import LossTerms, Method, MethodOptions, Needs, NotNegative, Positive
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of SAFN."""

    weight: NotNegative = 0.05
    """Weight of the norm loss."""
    delta: Positive = 1.0
    """Growth of a norm per step."""


def afn_loss(norms: Tensor, delta: float) -> Tensor:
    """Return the mean squared distance of feature norms to their current value plus delta.

    Stepwise adaptive feature norm loss (Xu et al. 2019, arXiv:1811.07456). Its value is
    always `delta ** 2`; its gradient increases every norm by the same amount.

    Args:
        norms: L2 norms of the features (B,), e.g. `features.norm(dim=1)`.
        delta: Growth of a norm per step.
    """
    return (norms - (norms.detach() + delta)).pow(2).mean()


class Afn(Method):
    """Stepwise adaptive feature norm: source and target features grow in norm."""

    needs = Needs(target=True, features=True)
    Options = Options
    paper = "Xu et al. 2019, arXiv:1811.07456"
    family = "adaptation"
    limitations = "features come from a linear layer only, which can do no more than scale them up."

    def fit(self, batch: Batch) -> LossTerms:
        """Return the supervised loss plus the norm loss."""
        output_s, output_t = self.forward_source_target(batch)
        supervised = self.supervised_loss(output_s, batch)
        norms = torch.cat([output_s.features, output_t.features]).float().norm(dim=1)
        growth = afn_loss(norms, self.options.delta)
        loss = supervised + self.options.weight * growth
        return {"loss": loss, "supervised": supervised.detach(), "norm": norms.mean().detach()}


METHOD = Afn
