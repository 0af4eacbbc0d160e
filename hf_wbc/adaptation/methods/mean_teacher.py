"""Mean teacher: the student predicts on a strong view of the target what the average of its past
weights predicts on a weak one (Tarvainen & Valpola 2017, arXiv:1703.01780; for domains French et
al. 2018, arXiv:1706.05208).

The teacher is what is evaluated and kept. French et al. normalise each domain by its own batch and
mask unsure samples; here one batch holds both, the teacher has its running statistics, and the
weight of consistency ramps up, as in the first paper.
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
    """Of the mean teacher."""

    weight: NotNegative = 3.0
    """Of consistency, once it has grown; on many labels the first paper has 100."""
    decay: ProperFraction = 0.99
    """Of the teacher: French et al.'s; the first paper has .99, then .999."""
    ramp_up: Fraction = 0.25
    """Fraction of the training in which the weight grows; 0 for none."""


def consistency_loss(z: Tensor, guide: Tensor) -> Tensor:
    """Mean squared difference of the probabilities of logits (B, C); the guide gets no gradient."""
    return (z.softmax(1) - guide.detach().softmax(1)).pow(2).mean()


def gaussian_ramp(progress: float, length: float) -> float:
    """exp(-5 (1 - progress / length)^2) up to `length`, then 1."""
    return math.exp(-5 * (1 - progress / length) ** 2) if progress < length else 1.0


class MeanTeacher(Method):
    needs = Needs(target=True, strong=True)
    Options = Options
    paper = "Tarvainen & Valpola 2017, arXiv:1703.01780; French et al. 2018, arXiv:1706.05208"
    family = "adaptation"
    limitations = "the source-trained teacher is wrong on whole classes, which it then confirms."

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        self.teacher = Teacher(self.classifier, self.options.decay)

    @property
    def eval_model(self) -> Classifier:
        return self.teacher.classifier

    def fit(self, batch: Batch) -> LossTerms:
        weak, strong = target_views(batch)
        output_s, output_t = forward_together(self.classifier, batch.source.inputs, strong)
        supervised = self.supervised_loss(output_s, batch)
        of_both = output_t.logits.float(), self.teacher(weak)
        distance = consistency_loss(*(self.supervised.select_present(logits) for logits in of_both))
        ramp = gaussian_ramp(batch.progress, self.options.ramp_up)
        loss = supervised + self.options.weight * ramp * distance
        return {
            "loss": loss, "supervised": supervised.detach(), "consistency": distance.detach()
        }  # fmt: skip

    def after_step(self) -> None:
        self.teacher.update(self.classifier)


METHOD = MeanTeacher
