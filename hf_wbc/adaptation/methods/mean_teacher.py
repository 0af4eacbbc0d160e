"""Mean teacher: consistency with the moving average of the student's weights.

Tarvainen & Valpola 2017, arXiv:1703.01780; for domain adaptation French et al. 2018,
arXiv:1706.05208. On a strong view of the target the student learns to predict what the teacher
predicts on a weak view. The teacher is the model that is evaluated and saved.

Differences from French et al.: one batch holds both domains, instead of one per domain; the teacher
uses its running statistics; and the consistency weight ramps up, as in the first paper, instead of
a mask on uncertain samples.
"""

import math
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
from hf_wbc.adaptation.teacher import Teacher
from hf_wbc.data.batch import Batch
from hf_wbc.models import Classifier


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of the mean teacher."""

    weight: NotNegative = 3.0
    """Final weight of the consistency loss; the first paper uses 100 with many labels."""
    decay: ProperFraction = 0.99
    """Decay of the teacher, as in French et al.; the first paper uses 0.99, then 0.999."""
    ramp_up: Fraction = 0.25
    """Fraction of training in which the weight grows; 0 starts at the full weight."""


def consistency_loss(z: Tensor, guide: Tensor) -> Tensor:
    """Return the mean squared difference () of two predictions' probabilities.

    Tarvainen & Valpola 2017, arXiv:1703.01780.

    Args:
        z: The student's logits (B, C).
        guide: The teacher's logits (B, C); no gradient.
    """
    return (z.softmax(1) - guide.detach().softmax(1)).pow(2).mean()


def gaussian_ramp(progress: float, length: float) -> float:
    """Return exp(-5 (1 - progress / length)^2) before `length`, and 1 from there."""
    return math.exp(-5 * (1 - progress / length) ** 2) if progress < length else 1.0


class MeanTeacher(Method):
    """Consistency between a student and its averaged teacher."""

    needs = Needs(target=True, strong=True)
    Options = Options
    paper = "Tarvainen & Valpola 2017, arXiv:1703.01780; French et al. 2018, arXiv:1706.05208"
    family = "adaptation"
    limitations = (
        "the source-trained teacher is wrong on whole classes, which the student then learns."
    )

    def setup(self, info: TrainingInfo) -> None:
        """Add the teacher."""
        super().setup(info)
        self.teacher = Teacher(self.classifier, self.options.decay)

    @property
    def eval_model(self) -> Classifier:
        """The teacher."""
        return self.teacher.classifier

    def fit(self, batch: Batch) -> LossTerms:
        """Return the supervised loss plus the weighted consistency."""
        weak, strong = target_views(batch)
        output_s, output_t = forward_together(self.classifier, batch.source.inputs, strong)
        supervised = self.supervised_loss(output_s, batch)
        pair = output_t.logits.float(), self.teacher(weak)
        distance = consistency_loss(*(self.supervised.select_present(logits) for logits in pair))
        ramp = gaussian_ramp(batch.progress, self.options.ramp_up)
        loss = supervised + self.options.weight * ramp * distance
        return {
            "loss": loss, "supervised": supervised.detach(), "consistency": distance.detach()
        }  # fmt: skip

    def after_step(self) -> None:
        """Update the teacher."""
        self.teacher.update(self.classifier)


METHOD = MeanTeacher
