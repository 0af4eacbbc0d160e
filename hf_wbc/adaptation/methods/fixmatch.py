"""FixMatch: pseudo-labels from a weak view (Sohn et al. 2020, arXiv:2001.07685).

Confident predictions on a weak view of the target label its strong view.
The labels come from the student in the same pass, or from a teacher, whose labels are more stable.
The paper's batches hold seven unlabeled images for each labeled one; here the numbers are equal.
"""

from dataclasses import dataclass

from torch import Tensor

from hf_wbc.adaptation.losses import forward_together, target_views
from hf_wbc.adaptation.method import (
    Fraction,
    LossTerms,
    Method,
    MethodOptions,
    Needs,
    NotNegative,
    ProperFraction,
    TrainingInfo,
)
from hf_wbc.adaptation.methods.pseudo_label import pseudo_label_loss
from hf_wbc.adaptation.teacher import Teacher
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of FixMatch."""

    weight: NotNegative = 1.0
    """Weight of the pseudo-label loss."""
    threshold: Fraction = 0.95
    """Confidence threshold of pseudo-labels."""
    teacher_decay: ProperFraction = 0.0
    """Decay of the teacher that gives the labels; 0 uses the student's own, as in the paper."""


def fixmatch_loss(z_strong: Tensor, z_weak: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the loss on the strong view (Sohn et al. 2020, arXiv:2001.07685).

    Args:
        z_strong: Logits on the strong view (B, C).
        z_weak: Logits on the weak view (B, C), which give the labels; no gradient.
        threshold: Minimum confidence of a label, in [0, 1].

    Returns:
        The cross-entropy () and the fraction () of samples above the threshold; see
        `pseudo_label_loss`.
    """
    return pseudo_label_loss(z_strong, z_weak, threshold)


class FixMatch(Method):
    """Pseudo-labels from the weak view supervise the strong view of the target."""

    needs = Needs(target=True, strong=True)
    Options = Options
    paper = "Sohn et al. 2020, arXiv:2001.07685"
    family = "adaptation"
    limitations = (
        "rare classes never pass the threshold, or early labels are wrong with confidence."
    )

    def setup(self, info: TrainingInfo) -> None:
        """Add the teacher, if any."""
        super().setup(info)
        decay = self.options.teacher_decay
        self.teacher = Teacher(self.classifier, decay) if decay else None

    def fit(self, batch: Batch) -> LossTerms:
        """Return the supervised loss plus the pseudo-label loss."""
        weak, strong = target_views(batch)
        if self.teacher is None:
            # As in the paper, the weak view shares the pass, and with it BatchNorm statistics.
            inputs = batch.source.inputs, strong, weak
            output_s, output_strong, output_weak = forward_together(self.classifier, *inputs)
            guide = output_weak.logits.float()
        else:
            output_s, output_strong = forward_together(self.classifier, batch.source.inputs, strong)
            guide = self.teacher(weak)
        supervised = self.supervised_loss(output_s, batch)
        pseudo, sure = fixmatch_loss(output_strong.logits.float(), guide, self.options.threshold)
        loss = supervised + self.options.weight * pseudo
        return {
            "loss": loss, "supervised": supervised.detach(), "pseudo": pseudo.detach(),
            "sure": sure,
        }  # fmt: skip

    def after_step(self) -> None:
        """Update the teacher, if any."""
        if self.teacher is not None:
            self.teacher.update(self.classifier)


METHOD = FixMatch
