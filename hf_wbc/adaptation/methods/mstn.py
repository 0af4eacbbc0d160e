"""MSTN: match the centroids of each class (Xie et al. 2018, ICML, PMLR 80).

A class's centroid in the target is that of the samples taken for it. Class by class, proportions do
not matter, and a class that a source lacks has no centroid there: it is neither moved nor matched.
Several sources are matched each on its own classes.

Where this differs from the paper: pseudo-labels are soft and corrected for the target's class
proportions, without which the leavings of common classes are a rare one's centroid; means fade by
samples, not by batches, so a class that a batch lacks stays where it was, and counts by what was
seen of it; the adversarial term, which aligns proportions, is left out.

Means of features that forget: sums that fade by samples, each with the number it is a sum of."""

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
    """The next fading sums (K, d + 1) of features (B, d), and of ones, under `member` (B, K)."""
    with torch.autocast(f.device.type, enabled=False):
        return theta * sums + member.T @ torch.cat([f, torch.ones_like(f[:, :1])], dim=1)


def fading_means(sums: Tensor) -> tuple[Tensor, Tensor]:
    """The means (K, d) in fading sums (K, d + 1), 0 of no sample, and of how many they are (K,)."""
    seen = sums[:, -1]
    return sums[:, :-1] / seen.clamp(min=1e-6)[:, None], seen


@dataclass(frozen=True)
class Options(PriorOptions):
    """Of MSTN, and of the target's proportions."""

    weight: NotNegative = 1.0
    """Of the distance of the centroids."""
    theta: ProperFraction = 0.7
    """What a batch counts after the next one, in the moving centroids."""
    gamma: Positive = 10.0
    """How fast the weight grows: by 2 / (1 + exp(-gamma progress)) - 1."""


def mstn_loss(c_s: Tensor, c_t: Tensor, matched: Tensor) -> Tensor:
    """Mean squared difference of centroids (S, C, d) of S sources and (C, d) of the target.

    `matched` (S, C) in [0, 1] is what each pair counts.
    """
    distance = (c_s - c_t).pow(2).mean(2)
    return (matched * distance).sum() / matched.sum().clamp(min=1e-12)


class Mstn(Method):
    needs = Needs(target=True, features=True)
    Options = Options
    paper = "Xie et al. 2018, ICML (PMLR 80)"
    family = "adaptation"
    limitations = "the target is full of a class that no source has, or is mostly misread at first."

    sums_s: Tensor
    """Fading sums of features and of ones, of each source's classes (S * C, d + 1)."""
    sums_t: Tensor
    """The same of the target's (C, d + 1)."""
    has: Tensor
    """1 where a source has a class (S, C)."""

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        (num_sources, num_classes), width = info.class_counts.shape, self.classifier.num_features
        self.num_classes = num_classes
        self.register_buffer("sums_s", torch.zeros(num_sources * num_classes, width + 1))
        self.register_buffer("sums_t", torch.zeros(num_classes, width + 1))
        self.register_buffer("has", (info.class_counts > 0).float(), persistent=False)
        present = self.has.any(0)
        self.priors = RunningPriors(present, self.options.momentum, self.options.pull)

    def fit(self, batch: Batch) -> LossTerms:
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
        """Of the centroids; each pair counts by what was seen of both, nothing for no sample."""
        (c_s, seen_s), (c_t, seen_t) = fading_means(sums_s), fading_means(sums_t)
        counted = (seen_s / (seen_s + 1)).view_as(self.has) * (seen_t / (seen_t + 1))
        return mstn_loss(c_s.view(*self.has.shape, -1), c_t, counted)


METHOD = Mstn
