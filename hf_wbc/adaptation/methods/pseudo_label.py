"""Pseudo-label: the classifier's own sure predictions on the target are its labels (Lee 2013).

The loss on them grows from nothing, once the classifier has learned something from the source. The
paper takes every prediction for a label; the threshold on confidence is FixMatch's.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from hf_wbc.adaptation.method import (
    Fraction,
    LossTerms,
    Method,
    MethodOptions,
    Needs,
    NotNegative,
    ProperFraction,
)
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(MethodOptions):
    """Of pseudo-labels."""

    weight: NotNegative = 3.0
    """Of the loss on pseudo-labels, once it has grown."""
    threshold: Fraction = 0.95
    """Confidence from which a prediction is a label; 0 takes all, as the paper does."""
    start: ProperFraction = 0.1
    """Progress at which the weight begins to grow (the paper's epoch 100)."""
    full: Fraction = 0.6
    """Progress from which the weight is whole (the paper's epoch 600)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.full <= self.start:
            raise ValueError(f"full is {self.full}; it must be above start, which is {self.start}")


def pseudo_label_loss(z: Tensor, guide: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits z (B, C) with what the guide's logits (B, C) are sure of.

    The mean over all B samples, where one whose greatest probability is below the threshold counts
    zero; and the fraction that is sure. The guide gets no gradient.
    """
    confidence, labels = guide.detach().softmax(1).max(1)
    sure = (confidence >= threshold).to(z.dtype)
    return (sure * cross_entropy(z, labels, reduction="none")).mean(), sure.mean()


def linear_ramp(progress: float, start: float, full: float) -> float:
    """0 up to `start`, 1 from `full`, a line between."""
    return min(max((progress - start) / (full - start), 0.0), 1.0)


class PseudoLabel(Method):
    needs = Needs(target=True)
    Options = Options
    paper = "Lee 2013, ICML workshop on challenges in representation learning"
    family = "adaptation"
    limitations = "a class is mistaken with confidence, as rare ones are: it learns its own errors."

    def fit(self, batch: Batch) -> LossTerms:
        options = self.options
        output_s, output_t = self.forward_source_target(batch)
        supervised = self.supervised_loss(output_s, batch)
        z_t = output_t.logits.float()
        pseudo, sure = pseudo_label_loss(z_t, z_t, options.threshold)
        ramp = linear_ramp(batch.progress, options.start, options.full)
        loss = supervised + options.weight * ramp * pseudo
        return {
            "loss": loss, "supervised": supervised.detach(), "pseudo": pseudo.detach(),
            "sure": sure,
        }  # fmt: skip


METHOD = PseudoLabel
