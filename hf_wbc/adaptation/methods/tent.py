"""TENT: entropy minimization on scales and shifts only (Wang et al. 2021, arXiv:2006.10726).

In the second phase only the affine parameters of normalization layers are trained, and BatchNorm
uses the statistics of the target batch, as in the paper. The paper also evaluates with those of the
test batch. A saved model has a single set of running statistics, so these become the average over
the target batches of the phase. The paper adapts on the test set; here it is the target's training
images.
"""

from torch import Tensor

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


def tent_loss(logits: Tensor) -> Tensor:
    """Return the mean entropy () of predictions (Wang et al. 2021, arXiv:2006.10726, sec. 3.1).

    Args:
        logits: Logits of unlabeled target samples (B, C).
    """
    return entropy(logits).mean()


class Tent(Method):
    """Test-time entropy minimization on normalization layers."""

    paper = "Wang et al. 2021, arXiv:2006.10726"
    family = "source-free"
    limitations = (
        "batches are small or ordered by class, or the model is confidently wrong: predictions "
        "then collapse into the frequent classes."
    )
    adapt_passes = 1.0

    def setup(self, info: TrainingInfo) -> None:
        """Check that a normalization layer is trainable."""
        super().setup(info)
        self.adapting = False
        if not affine_parameters(self.classifier):
            raise ValueError(
                f"{self.name()} trains scale and shift of normalization layers, but none is "
                "trainable here; use --trainable full, or add one with --bottleneck 256"
            )

    def start_adapting(self) -> None:
        """Train only the affine parameters, and reset the running statistics."""
        self.adapting = True
        train_only(self, affine_parameters(self.classifier))
        reset_statistics(self.classifier)

    def adapt(self, batch: TargetBatch) -> LossTerms:
        """Return the mean entropy of the target batch."""
        return {"loss": tent_loss(batch_logits(self.classifier, batch.target.inputs))}

    def after_step(self) -> None:
        """Average the running statistics over processes in the second phase."""
        if self.adapting:  # not in `adapt`: the backward pass needs the old statistics
            average_statistics(self.classifier)


METHOD = Tent
