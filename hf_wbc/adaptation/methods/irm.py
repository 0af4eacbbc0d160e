"""IRMv1: invariant risk minimization (Arjovsky et al. 2019, arXiv:1907.02893).

One head has to be optimal for every source at once. The penalty is each domain's squared gradient
of the cross-entropy with respect to a scale w of the logits, at w = 1. This gradient has a closed
form, E_p[z] - z_y for each sample. Its square is estimated without bias from all pairs of different
samples; the paper's code uses two halves of a batch instead. As there, an estimate may be negative.
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
    """Hyper-parameters of IRM."""

    weight: NotNegative = 100.0
    """Weight of the penalty, as in DomainBed."""
    anneal: Fraction = 0.1
    """Initial fraction of training in which the weight is at most 1, as in DomainBed."""


def scale_gradients(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the derivative (B,) of the cross-entropy of w * logits with respect to w, at w = 1.

    Args:
        logits: Class scores (B, C).
        labels: Class ids (B,).
    """
    mean = (logits.softmax(1) * logits).sum(1)
    return mean - logits.gather(1, labels[:, None]).squeeze(1)


def irm_penalty(gradients: Tensor, domains: Tensor, num_domains: int) -> Tensor:
    """Return the mean over domains of the squared mean gradient, estimated without bias.

    IRMv1 penalty (Arjovsky et al. 2019, arXiv:1907.02893, sec. 3.1).

    Args:
        gradients: See `scale_gradients` (B,).
        domains: Domain index of each sample (B,). Domains with fewer than two samples are ignored.
        num_domains: Number of domains.

    Returns:
        A scalar; it can be negative.
    """
    means, counts = domain_means(gradients, domains, num_domains)
    squares, _ = domain_means(gradients.square(), domains, num_domains)
    enough = (counts > 1).to(gradients.dtype)
    pairs = (counts * means.square() - squares) / (counts - 1).clamp(min=1)
    return (enough * pairs).sum() / enough.sum().clamp(min=1)


class IRM(Method):
    """Invariant risk minimization over source domains."""

    needs = Needs(num_sources=2)
    Options = Options
    paper = "Arjovsky et al. 2019, arXiv:1907.02893"
    family = "generalization"
    limitations = (
        "there are few sources or the model can fit them all: the penalty vanishes while features "
        "still depend on the laboratory."
    )

    def fit(self, batch: Batch) -> LossTerms:
        """Return the supervised loss plus the weighted penalty."""
        source = batch.source
        output = self.classifier(source.inputs)
        gradients = scale_gradients(output.logits.float(), source.labels)
        penalty = irm_penalty(
            all_gather_batch(gradients), all_gather_batch(source.domains), self.num_sources
        )
        weight = ramp_up(self.options.weight, self.options.anneal, batch.progress)
        return {"loss": self.supervised_loss(output, batch) + weight * penalty, "penalty": penalty}


METHOD = IRM
