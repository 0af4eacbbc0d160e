"""V-REx: equalize the risks of the sources (Krueger et al. 2021, arXiv:2003.00688).

The variance of the domains' risks is penalized. Weight and annealing follow DomainBed, where the
weight is 1 for the first tenth of training. The paper adds the sum of risks; here, as in all
methods, it is the mean over samples.
"""

from dataclasses import dataclass

from torch import Tensor

from hf_wbc.adaptation.losses import all_gather_batch, domain_means, ramp_up
from hf_wbc.adaptation.method import (
    Fraction,
    LossTerms,
    Method,
    MethodOptions,
    Needs,
    NotNegative,
)
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of V-REx."""

    weight: NotNegative = 10.0
    """Weight of the variance."""
    anneal: Fraction = 0.1
    """Initial fraction of training in which the weight is at most 1."""


def vrex_penalty(losses: Tensor, domains: Tensor, num_domains: int) -> Tensor:
    """Return the variance () of the domains' mean losses (arXiv:2003.00688).

    Args:
        losses: Loss of each sample (B,).
        domains: Domain index of each sample (B,); domains without samples are ignored.
        num_domains: Number of domains.
    """
    means, counts = domain_means(losses, domains, num_domains)
    present = (counts > 0).to(losses.dtype)
    center = means.sum() / present.sum()
    return (present * (means - center).square()).sum() / present.sum()


class VREx(Method):
    """Risk extrapolation over source domains."""

    needs = Needs(num_sources=2)
    Options = Options
    paper = "Krueger et al. 2021, arXiv:2003.00688"
    family = "generalization"
    limitations = (
        "sources differ in difficulty, so that equal risks cost accuracy; two or three sources say "
        "little about a fourth."
    )

    def fit(self, batch: Batch) -> LossTerms:
        """Return the supervised loss plus the weighted variance of the risks."""
        source = batch.source
        logits = self.classifier(source.inputs).logits
        losses = self.supervised(logits, source.labels, source.domains)
        penalty = vrex_penalty(
            all_gather_batch(losses), all_gather_batch(source.domains), self.num_sources
        )
        weight = ramp_up(self.options.weight, self.options.anneal, batch.progress)
        return {"loss": losses.mean() + weight * penalty, "variance": penalty}


METHOD = VREx
