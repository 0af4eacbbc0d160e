"""TENT: entropy minimisation by scales and shifts alone (Wang et al. 2021, arXiv:2006.10726).

In the second phase only the affine parameters of normalisation layers learn, and BatchNorm uses the
statistics of the target batch, as in the paper. The paper evaluates with those of the test batch
too; what others load has one set of running statistics, so these become the average over the target
batches of the phase. The paper's stream is the test set; ours is the target's training images.
"""

from torch import Tensor

from hf_wbc.adaptation._contract import Method, Setting, Terms
from hf_wbc.adaptation._norms import (
    affines,
    learn_only,
    only_batch_norm_trains,
    restart_statistics,
    share_statistics,
)
from hf_wbc.data.batch import TargetBatch


def entropy(logits: Tensor) -> Tensor:
    """Shannon entropy in nats of the softmax of logits (B, C), (B,)."""
    log_p = logits.log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


class Tent(Method):
    paper = "Wang et al. 2021, arXiv:2006.10726"
    family = "source-free"
    fails_when = (
        "batches are small or ordered by class, or the model is confidently wrong: all predictions "
        "then collapse into the frequent classes."
    )
    adapt_passes = 1.0

    def setup(self, setting: Setting) -> None:
        super().setup(setting)
        self.adapting = False
        if not affines(self.classifier):
            raise ValueError(
                f"{self.name()} adapts scale and shift of normalisation layers, and none learns "
                "here; use --trainable full, or add one with --bottleneck 256"
            )

    def start_adapting(self) -> None:
        self.adapting = True
        learn_only(self, affines(self.classifier))
        restart_statistics(self.classifier)

    def adapt(self, batch: TargetBatch) -> Terms:
        return {"loss": entropy(self.target_logits(batch)).mean()}

    def target_logits(self, batch: TargetBatch) -> Tensor:
        """Logits (B, C) in fp32 under the batch's own statistics, which are averaged in."""
        only_batch_norm_trains(self.classifier)
        logits: Tensor = self.classifier(batch.target.inputs).logits.float()
        return logits

    def after_step(self) -> None:
        if self.adapting:  # not in `adapt`: the gradient needs the statistics as they were
            share_statistics(self.classifier)


METHOD = Tent
