"""CORAL between every pair of sources (Sun & Saenko 2016, arXiv:1607.01719).

This is DomainBed's use of CORAL for domain generalization, with the paper's formula: DomainBed adds
a distance of means and normalizes differently. The covariances are never formed. With G the Gram
matrix of samples, each centered on its domain, the inner product of two covariances is a sum of
squares in G, which is cheaper for wide features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hf_wbc.adaptation.losses import all_gather_batch
from hf_wbc.adaptation.method import (
    LossTerms,
    Method,
    MethodOptions,
    Needs,
    NotNegative,
)
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of CORAL between sources."""

    weight: NotNegative = 1.0
    """Weight of the mean covariance distance."""


def multi_coral_loss(features: Tensor, domains: Tensor, num_domains: int) -> Tensor:
    """Return the mean of ||C_i - C_j||^2 / (4 d^2) over all pairs of domains, ().

    Args:
        features: Features (B, d).
        domains: Domain index of each sample (B,). Domains with fewer than two samples have no
            covariance and are ignored.
        num_domains: Number of domains.
    """
    member = nn.functional.one_hot(domains, num_domains).to(features.dtype)
    counts = member.sum(0)
    means = (member.T @ features) / counts.clamp(min=1)[:, None]
    centered = features - member @ means
    share = member / (counts - 1).clamp(min=1)
    inner = share.T @ (centered @ centered.T).square() @ share
    norms = inner.diagonal()
    distance = norms[:, None] + norms[None] - 2 * inner
    enough = (counts > 1).to(features.dtype)
    pairs = torch.outer(enough, enough).triu(1)
    return (pairs * distance).sum() / pairs.sum().clamp(min=1) / (4 * features.shape[1] ** 2)


class MultiCoral(Method):
    """Matches the feature covariances of all pairs of sources."""

    needs = Needs(num_sources=2, features=True)
    Options = Options
    paper = (
        "Sun & Saenko 2016, arXiv:1607.01719, as in Gulrajani & Lopez-Paz 2021, arXiv:2007.01434"
    )
    family = "generalization"
    limitations = (
        "sources contain different mixes of classes, so that their covariances should differ."
    )

    def fit(self, batch: Batch) -> LossTerms:
        """Return the supervised loss plus the weighted covariance distance."""
        output = self.classifier(batch.source.inputs)
        with torch.autocast(output.features.device.type, enabled=False):
            features, domains = (
                all_gather_batch(output.features.float()),
                all_gather_batch(batch.source.domains),
            )
            penalty = multi_coral_loss(features, domains, self.num_sources)
        loss = self.supervised_loss(output, batch) + self.options.weight * penalty
        return {"loss": loss, "coral": penalty}


METHOD = MultiCoral
