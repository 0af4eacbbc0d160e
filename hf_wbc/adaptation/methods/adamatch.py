"""AdaMatch: FixMatch for two domains (Berthelot et al. 2021, arXiv:2106.04732).

Pseudo-labels are first aligned with the class proportions that the classifier predicts on the
source, and the threshold on their confidence is relative to its confidence there. Of the paper,
random logit interpolation is left out: it mixes the source's logits with those of a second pass
over the source alone, which differ only by BatchNorm's statistics of the batch. Proportions are the
batch's; the authors' code averages them over past batches.
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
    """Of AdaMatch."""

    weight: NotNegative = 1.0
    """Of the loss on pseudo-labels, once it has grown."""
    threshold: Fraction = 0.9
    """Confidence from which a prediction is a label, relative to the mean on the source."""


def align_distribution(z_t: Tensor, z_s: Tensor) -> Tensor:
    """Target probabilities (B_t, C) times source over target class proportions, rows normalised.

    Proportions are mean probabilities of logits z_s (B_s, C) and z_t (B_t, C), taken in logarithms:
    a class that no sample has stays finite.
    """
    log_p_s, log_p_t = z_s.log_softmax(1), z_t.log_softmax(1)
    log_ratio = (log_p_s.logsumexp(0) - math.log(len(z_s))) - (
        log_p_t.logsumexp(0) - math.log(len(z_t))
    )
    return torch.softmax(log_p_t + log_ratio, dim=1)


def adamatch_loss(
    z_strong: Tensor, z_weak: Tensor, z_s: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of strong target logits (B_t, C) with aligned sure labels of the weak ones.

    The mean over all B_t samples, where those below the threshold count zero; and the fraction
    that is sure. Weak target and source logits (B_t, C) and (B_s, C) get no gradient.
    """
    z_weak, z_s = z_weak.detach(), z_s.detach()
    confidence, labels = align_distribution(z_weak, z_s).max(1)
    sure = (confidence >= threshold * z_s.softmax(1).amax(1).mean()).to(z_strong.dtype)
    return (sure * cross_entropy(z_strong, labels, reduction="none")).mean(), sure.mean()


def cosine_warm_up(progress: float) -> float:
    """From 0 to 1 in the first half of the training, as half a cosine wave."""
    return 0.5 - 0.5 * math.cos(min(math.pi, 2 * math.pi * progress))


class AdaMatch(Method):
    needs = Needs(target=True, strong=True)
    Options = Options
    paper = "Berthelot et al. 2021, arXiv:2106.04732"
    family = "adaptation"
    limitations = "class proportions differ: it relabels target cells until they have the source's."

    def fit(self, batch: Batch) -> LossTerms:
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
