"""Pseudo-label: train on the classifier's own confident target predictions (Lee 2013).

The weight of the loss grows from 0 after the classifier has learned from the source. The paper uses
every prediction as a label; the confidence threshold is FixMatch's.
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
    """Hyper-parameters of pseudo-labels."""

    weight: NotNegative = 3.0
    """Final weight of the pseudo-label loss."""
    threshold: Fraction = 0.95
    """Confidence threshold of pseudo-labels; 0 uses all predictions, as in the paper."""
    start: ProperFraction = 0.1
    """Progress at which the weight begins to grow (epoch 100 in the paper)."""
    full: Fraction = 0.6
    """Progress at which the weight is final (epoch 600 in the paper)."""

    def __post_init__(self) -> None:
        """Check that the ramp has a positive length."""
        super().__post_init__()
        if self.full <= self.start:
            raise ValueError(f"full is {self.full}; it must be above start, which is {self.start}")


def pseudo_label_loss(z: Tensor, guide: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy with confident pseudo-labels, and their fraction.

    Lee 2013, with the threshold of FixMatch (arXiv:2001.07685).

    Args:
        z: Logits to train (B, C).
        guide: Logits that give the labels (B, C), e.g. `z` itself; no gradient.
        threshold: Minimum confidence of a label, in [0, 1].

    Returns:
        The cross-entropy (), averaged over all B samples with those below the threshold counting
        zero, and the fraction () of samples above the threshold.
    """
    confidence, labels = guide.detach().softmax(1).max(1)
    sure = (confidence >= threshold).to(z.dtype)
    return (sure * cross_entropy(z, labels, reduction="none")).mean(), sure.mean()


def linear_ramp(progress: float, start: float, full: float) -> float:
    """Return 0 up to `start`, 1 from `full`, and a linear ramp between them."""
    return min(max((progress - start) / (full - start), 0.0), 1.0)


class PseudoLabel(Method):
    """Self-training on confident target predictions."""

    needs = Needs(target=True)
    Options = Options
    paper = "Lee 2013, ICML workshop on challenges in representation learning"
    family = "adaptation"
    limitations = (
        "errors are confident, as they are on rare classes: the classifier learns its own errors."
    )

    def fit(self, batch: Batch) -> LossTerms:
        """Return the supervised loss plus the weighted pseudo-label loss."""
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
