"""MSTN: match the centroids of each class (Xie et al. 2018, ICML, PMLR 80).

The centroid of a class in the target is that of the samples that are assigned to it. Because
classes are matched one by one, class proportions do not matter. A class that a source lacks has no
centroid there and is ignored. Each source is matched separately, on its own classes.

Differences from the paper: pseudo-labels are soft and corrected for the target's class proportions;
otherwise the misclassified samples of common classes form a rare class's centroid. Moving averages
decay by samples instead of batches, so that a class that a batch lacks keeps its centroid, and each
class counts by how much was seen of it. The adversarial term, which aligns proportions, is omitted.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from hf_wbc.adaptation.losses import all_gather_batch, reversal_strength
from hf_wbc.adaptation.method import (
    LossTerms,
    Method,
    Needs,
    NotNegative,
    Positive,
    ProperFraction,
    TrainingInfo,
)
from hf_wbc.adaptation.target_priors import PriorOptions, RunningPriors
from hf_wbc.data.batch import Batch


def update_fading_sums(sums: Tensor, f: Tensor, member: Tensor, theta: float) -> Tensor:
    """Return exponentially decaying sums (K, d + 1) after another batch.

    The first d columns are sums of features, the last one is the number of samples.

    Args:
        sums: The sums so far (K, d + 1).
        f: Features (B, d).
        member: Weight of each sample in each of the K sums (B, K).
        theta: Decay of the sums per batch.
    """
    with torch.autocast(f.device.type, enabled=False):
        return theta * sums + member.T @ torch.cat([f, torch.ones_like(f[:, :1])], dim=1)


def fading_means(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means (K, d) and sample counts (K,) of decaying sums (K, d + 1).

    The mean of no samples is 0.
    """
    seen = sums[:, -1]
    return sums[:, :-1] / seen.clamp(min=1e-6)[:, None], seen


@dataclass(frozen=True)
class Options(PriorOptions):
    """Hyper-parameters of MSTN and of the estimated target priors."""

    weight: NotNegative = 1.0
    """Weight of the centroid distance."""
    theta: ProperFraction = 0.7
    """Decay of the moving centroids per batch."""
    gamma: Positive = 10.0
    """Growth rate of the weight, 2 / (1 + exp(-gamma * progress)) - 1."""


def mstn_loss(c_s: Tensor, c_t: Tensor, matched: Tensor) -> Tensor:
    """Return the weighted mean squared difference () of class centroids.

    The semantic transfer loss of Xie et al. 2018, as a mean instead of a sum.

    Args:
        c_s: Centroids of S sources (S, C, d).
        c_t: Centroids of the target (C, d).
        matched: Weight of each pair (S, C), in [0, 1].
    """
    distance = (c_s - c_t).pow(2).mean(2)
    return (matched * distance).sum() / matched.sum().clamp(min=1e-12)


class Mstn(Method):
    """Matches moving class centroids of source and target."""

    needs = Needs(target=True, features=True)
    Options = Options
    paper = "Xie et al. 2018, ICML (PMLR 80)"
    family = "adaptation"
    limitations = (
        "no source contains a frequent target class, or most early target predictions are wrong."
    )

    sums_s: Tensor
    """Decaying sums of each source's classes (S * C, d + 1), see `update_fading_sums`."""
    sums_t: Tensor
    """Decaying sums of the target's classes (C, d + 1)."""
    has: Tensor
    """1 where a source contains a class, else 0 (S, C)."""

    def setup(self, info: TrainingInfo) -> None:
        """Add the moving centroids and the prior estimate."""
        super().setup(info)
        (num_sources, num_classes), width = info.class_counts.shape, self.classifier.num_features
        self.num_classes = num_classes
        self.register_buffer("sums_s", torch.zeros(num_sources * num_classes, width + 1))
        self.register_buffer("sums_t", torch.zeros(num_classes, width + 1))
        self.register_buffer("has", (info.class_counts > 0).float(), persistent=False)
        present = self.has.any(0)
        self.priors = RunningPriors(present, self.options.momentum, self.options.pull)

    def fit(self, batch: Batch) -> LossTerms:
        """Return the supervised loss plus the weighted centroid distance."""
        output_s, output_t = self.forward_source_target(batch)
        supervised = self.supervised_loss(output_s, batch)
        cells = batch.source.domains * self.num_classes + batch.source.labels
        member_s = one_hot(all_gather_batch(cells), self.has.numel()) * self.has.flatten()
        self.priors.update(output_s.logits, batch.source.labels, output_t.logits)
        member_t = self.priors.correct_for_priors(all_gather_batch(output_t.logits))
        theta = self.options.theta
        sums_s = update_fading_sums(
            self.sums_s, all_gather_batch(output_s.features).float(), member_s, theta
        )
        sums_t = update_fading_sums(
            self.sums_t, all_gather_batch(output_t.features).float(), member_t, theta
        )
        distance = self.distance(sums_s, sums_t)
        self.sums_s.copy_(sums_s.detach())
        self.sums_t.copy_(sums_t.detach())
        strength = self.options.weight * reversal_strength(batch.progress, self.options.gamma)
        loss = supervised + strength * distance
        return {"loss": loss, "supervised": supervised.detach(), "semantic": distance.detach()}

    def distance(self, sums_s: Tensor, sums_t: Tensor) -> Tensor:
        """Return the centroid distance; each pair counts by the samples seen of both."""
        (c_s, seen_s), (c_t, seen_t) = fading_means(sums_s), fading_means(sums_t)
        counted = (seen_s / (seen_s + 1)).view_as(self.has) * (seen_t / (seen_t + 1))
        return mstn_loss(c_s.view(*self.has.shape, -1), c_t, counted)


METHOD = Mstn
