"""FixMatch: what is sure on a weak view of the target labels its strong view (Sohn et al. 2020,
arXiv:2001.07685).

The labels are the student's own, from the same pass, or those of a teacher, which are steadier. The
paper's batches hold seven unlabelled images for a labelled one; here there are as many of either.
"""

from dataclasses import dataclass

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
    """Of FixMatch."""

    weight: NotNegative = 1.0
    """Of the loss on the strong view."""
    threshold: Fraction = 0.95
    """Confidence from which a prediction is a label."""
    teacher_decay: ProperFraction = 0.0
    """Of a teacher that gives the labels; 0 for the student's own, as in the paper."""


class FixMatch(Method):
    needs = Needs(target=True, strong=True)
    Options = Options
    paper = "Sohn et al. 2020, arXiv:2001.07685"
    family = "adaptation"
    limitations = "rare classes never pass the threshold, or the first labels are wrong but sure."

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        decay = self.options.teacher_decay
        self.teacher = Teacher(self.classifier, decay) if decay else None

    def fit(self, batch: Batch) -> LossTerms:
        weak, strong = target_views(batch)
        if self.teacher is None:
            # The weak view shares the pass, as in the paper: BatchNorm's statistics are of all.
            inputs = batch.source.inputs, strong, weak
            output_s, output_strong, output_weak = forward_together(self.classifier, *inputs)
            guide = output_weak.logits.float()
        else:
            output_s, output_strong = forward_together(self.classifier, batch.source.inputs, strong)
            guide = self.teacher(weak)
        supervised = self.supervised_loss(output_s, batch)
        pseudo, sure = pseudo_label_loss(
            output_strong.logits.float(), guide, self.options.threshold
        )
        loss = supervised + self.options.weight * pseudo
        return {
            "loss": loss, "supervised": supervised.detach(), "pseudo": pseudo.detach(),
            "sure": sure,
        }  # fmt: skip

    def after_step(self) -> None:
        if self.teacher is not None:
            self.teacher.update(self.classifier)


METHOD = FixMatch
