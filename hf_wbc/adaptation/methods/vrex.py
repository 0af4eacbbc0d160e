"""V-REx: the sources' risks should be equal (Krueger et al. 2021, arXiv:2003.00688).

The variance of the domains' risks is penalised; weight and annealing are DomainBed's, which has the
penalty's weight at 1 for the first tenth. The paper adds the sum of risks, here as everywhere the
mean over samples.
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
    TrainingInfo,
)
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(MethodOptions):
    weight: NotNegative = 10.0
    """Of the variance."""
    anneal: Fraction = 0.1
    """Fraction of training in which the weight is at most 1."""


def vrex_penalty(losses: Tensor, domains: Tensor, num_domains: int) -> Tensor:
    """Variance of the mean losses of the domains that are there; losses and domains (B,)."""
    means, counts = domain_means(losses, domains, num_domains)
    present = (counts > 0).to(losses.dtype)
    centre = means.sum() / present.sum()
    return (present * (means - centre).square()).sum() / present.sum()


class VREx(Method):
    needs = Needs(num_sources=2)
    Options = Options
    paper = "Krueger et al. 2021, arXiv:2003.00688"
    family = "generalisation"
    limitations = (
        "sources differ in how hard their classes are, for then equal risks cost accuracy; two or "
        "three sources say little about a fourth."
    )

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        self.num_domains = len(info.source_domains)

    def fit(self, batch: Batch) -> LossTerms:
        source = batch.source
        logits = self.classifier(source.inputs).logits
        losses = self.supervised(logits, source.labels, source.domains)
        penalty = vrex_penalty(
            all_gather_batch(losses), all_gather_batch(source.domains), self.num_domains
        )
        weight = ramp_up(self.options.weight, self.options.anneal, batch.progress)
        return {"loss": losses.mean() + weight * penalty, "variance": penalty}


METHOD = VREx
