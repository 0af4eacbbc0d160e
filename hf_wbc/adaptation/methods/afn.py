"""SAFN: let every feature norm grow, step by step (Xu et al. 2019, arXiv:1811.07456).

Target features have smaller norms than the source's and transfer badly: each sample's norm is drawn
to what it just was plus delta. The mean is over the samples of both domains, as in the paper's
formula; the authors' code adds a mean for each, which is twice that.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_wbc.adaptation.method import LossTerms, Method, MethodOptions, Needs, NotNegative, Positive
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(MethodOptions):
    """Of SAFN."""

    weight: NotNegative = 0.05
    """Of the loss on norms."""
    delta: Positive = 1.0
    """By how much a norm is to grow in a step."""


def afn_loss(norms: Tensor, delta: float) -> Tensor:
    """Mean squared distance of norms (B,) to what they are plus delta, a constant.

    The value is always delta^2; the gradient pulls each norm up by the same.
    """
    return (norms - (norms.detach() + delta)).pow(2).mean()


class Afn(Method):
    needs = Needs(target=True, features=True)
    Options = Options
    paper = "Xu et al. 2019, arXiv:1811.07456"
    family = "adaptation"
    limitations = "features come through a linear layer alone: it can only scale them up."

    def fit(self, batch: Batch) -> LossTerms:
        output_s, output_t = self.forward_source_target(batch)
        supervised = self.supervised_loss(output_s, batch)
        norms = torch.cat([output_s.features, output_t.features]).float().norm(dim=1)
        growth = afn_loss(norms, self.options.delta)
        loss = supervised + self.options.weight * growth
        return {"loss": loss, "supervised": supervised.detach(), "norm": norms.mean().detach()}


METHOD = Afn
