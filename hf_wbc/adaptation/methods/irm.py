"""IRMv1: one head that is best for every source at once (Arjovsky et al. 2019, arXiv:1907.02893).

The penalty is each domain's squared gradient of the cross-entropy in a scale w of the logits, at
w = 1. That gradient is known in closed form: E_p[z] - z_y in each sample. Its square is estimated
without bias, as the paper's code does by two halves of a batch, but from all pairs of different
samples, so that no split is drawn; like theirs, an estimate may be negative.
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
    weight: NotNegative = 100.0
    """Of the penalty; DomainBed's."""
    anneal: Fraction = 0.1
    """Fraction of training in which the weight is at most 1; DomainBed's."""


def scale_gradients(logits: Tensor, labels: Tensor) -> Tensor:
    """d/dw of the cross-entropy of w * logits (B, C) at w = 1, for each sample (B,)."""
    mean = (logits.softmax(1) * logits).sum(1)
    return mean - logits.gather(1, labels[:, None]).squeeze(1)


def irm_penalty(gradients: Tensor, domains: Tensor, num_domains: int) -> Tensor:
    """Mean over domains of the squared mean gradient, estimated without bias; both inputs (B,).

    A domain of fewer than two samples says nothing and is left out.
    """
    means, counts = domain_means(gradients, domains, num_domains)
    squares, _ = domain_means(gradients.square(), domains, num_domains)
    enough = (counts > 1).to(gradients.dtype)
    pairs = (counts * means.square() - squares) / (counts - 1).clamp(min=1)
    return (enough * pairs).sum() / enough.sum().clamp(min=1)


class IRM(Method):
    needs = Needs(num_sources=2)
    Options = Options
    paper = "Arjovsky et al. 2019, arXiv:1907.02893"
    family = "generalisation"
    limitations = (
        "sources are few or the model can fit them all: the penalty then vanishes while features "
        "still depend on the laboratory."
    )

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        self.num_domains = len(info.source_domains)

    def fit(self, batch: Batch) -> LossTerms:
        source = batch.source
        output = self.classifier(source.inputs)
        gradients = scale_gradients(output.logits.float(), source.labels)
        penalty = irm_penalty(
            all_gather_batch(gradients), all_gather_batch(source.domains), self.num_domains
        )
        weight = ramp_up(self.options.weight, self.options.anneal, batch.progress)
        return {"loss": self.supervised_loss(output, batch) + weight * penalty, "penalty": penalty}


METHOD = IRM
