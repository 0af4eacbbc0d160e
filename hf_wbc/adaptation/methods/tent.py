"""TENT: entropy minimisation by scales and shifts alone (Wang et al. 2021, arXiv:2006.10726).

In the second phase only the affine parameters of normalisation layers learn, and BatchNorm uses the
statistics of the target batch, as in the paper. The paper evaluates with those of the test batch
too; what others load has one set of running statistics, so these become the average over the target
batches of the phase. The paper's stream is the test set; ours is the target's training images.
"""

from hf_wbc.adaptation.losses import entropy
from hf_wbc.adaptation.method import LossTerms, Method, TrainingInfo
from hf_wbc.adaptation.norm_layers import (
    affine_parameters,
    average_statistics,
    batch_logits,
    reset_statistics,
    train_only,
)
from hf_wbc.data.batch import TargetBatch


class Tent(Method):
    paper = "Wang et al. 2021, arXiv:2006.10726"
    family = "source-free"
    limitations = (
        "batches are small or ordered by class, or the model is confidently wrong: all predictions "
        "then collapse into the frequent classes."
    )
    adapt_passes = 1.0

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        self.adapting = False
        if not affine_parameters(self.classifier):
            raise ValueError(
                f"{self.name()} adapts scale and shift of normalisation layers, and none learns "
                "here; use --trainable full, or add one with --bottleneck 256"
            )

    def start_adapting(self) -> None:
        self.adapting = True
        train_only(self, affine_parameters(self.classifier))
        reset_statistics(self.classifier)

    def adapt(self, batch: TargetBatch) -> LossTerms:
        return {"loss": entropy(batch_logits(self.classifier, batch.target.inputs)).mean()}

    def after_step(self) -> None:
        if self.adapting:  # not in `adapt`: the gradient needs the statistics as they were
            average_statistics(self.classifier)


METHOD = Tent
