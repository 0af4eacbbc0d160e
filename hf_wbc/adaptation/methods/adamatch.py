"""AdaMatch: FixMatch for two domains (Berthelot et al. 2021, arXiv:2106.04732).

Pseudo-labels are aligned with the class proportions that the classifier predicts on the source, and
the confidence threshold is relative to the confidence on the source.

Differences from the paper: random logit interpolation is omitted, because it mixes the source's
logits with those of a second, source-only pass, which differ only in BatchNorm's batch statistics.
Class proportions are those of the batch; the authors' code averages them over past batches.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hf_wbc.adaptation.losses import all_gather_batch, forward_together, target_views
from hf_wbc.adaptation.method import Fraction, LossTerms, Method, MethodOptions, Needs, NotNegative
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of AdaMatch."""

    weight: NotNegative = 1.0
    """Weight of the pseudo-label loss at the end of its warm-up."""
    threshold: Fraction = 0.9
    """Confidence threshold of pseudo-labels, relative to the mean confidence on the source."""


def align_distribution(z_t: Tensor, z_s: Tensor) -> Tensor:
    """Return target probabilities (B_t, C) rescaled to the source's class proportions.

    Each row is multiplied by the ratio of mean source to mean target probabilities and normalized
    (distribution alignment, arXiv:2106.04732, sec. 3.3). The ratio is computed from logarithms, so
    that it stays finite for a class that no sample has.

    Args:
        z_t: Target logits (B_t, C).
        z_s: Source logits (B_s, C).
    """
    log_p_s, log_p_t = z_s.log_softmax(1), z_t.log_softmax(1)
    log_ratio = (log_p_s.logsumexp(0) - math.log(len(z_s))) - (
        log_p_t.logsumexp(0) - math.log(len(z_t))
    )
    return torch.softmax(log_p_t + log_ratio, dim=1)


def adamatch_loss(
    z_strong: Tensor, z_weak: Tensor, z_s: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """Return AdaMatch's pseudo-label loss (arXiv:2106.04732) and its fraction of labels.

    Args:
        z_strong: Target logits (B_t, C) on the strong view.
        z_weak: Target logits (B_t, C) on the weak view, which give the labels; no gradient.
        z_s: Source logits (B_s, C) on the weak view; no gradient.
        threshold: Confidence threshold in [0, 1], relative to the mean confidence on the source.

    Returns:
        The cross-entropy (), averaged over all B_t samples with those below the threshold counting
        zero, and the fraction () of samples above the threshold.
    """
    z_weak, z_s = z_weak.detach(), z_s.detach()
    confidence, labels = align_distribution(z_weak, z_s).max(1)
    sure = (confidence >= threshold * z_s.softmax(1).amax(1).mean()).to(z_strong.dtype)
    return (sure * cross_entropy(z_strong, labels, reduction="none")).mean(), sure.mean()


def cosine_warm_up(progress: float) -> float:
    """Return a weight that grows from 0 to 1 along a half cosine in the first half of training."""
    return 0.5 - 0.5 * math.cos(min(math.pi, 2 * math.pi * progress))


class AdaMatch(Method):
    """FixMatch with distribution alignment and a relative confidence threshold."""

    needs = Needs(target=True, strong=True)
    Options = Options
    paper = "Berthelot et al. 2021, arXiv:2106.04732"
    family = "adaptation"
    limitations = (
        "class proportions differ: it relabels target cells until they match the source's."
    )

    def fit(self, batch: Batch) -> LossTerms:
        """Return the supervised loss plus the pseudo-label loss."""
        weak, strong = target_views(batch)
        assert batch.source.strong is not None
        inputs = batch.source.inputs, batch.source.strong, weak, strong
        s_weak, s_strong, t_weak, t_strong = forward_together(self.classifier, *inputs)
        supervised = (
            self.supervised_loss(s_weak, batch) + self.supervised_loss(s_strong, batch)
        ) / 2
        z_strong, z_weak, z_s = (
            all_gather_batch(o.logits).float() for o in (t_strong, t_weak, s_weak)
        )
        pseudo, sure = adamatch_loss(z_strong, z_weak, z_s, self.options.threshold)
        loss = supervised + self.options.weight * cosine_warm_up(batch.progress) * pseudo
        return {
            "loss": loss, "supervised": supervised.detach(), "pseudo": pseudo.detach(),
            "sure": sure,
        }  # fmt: skip


METHOD = AdaMatch
