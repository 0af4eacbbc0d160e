"""AdaBN: re-estimate BatchNorm statistics on the target (Li et al. 2016, arXiv:1603.04779).

No weights are trained. The mean and variance of every BatchNorm layer become averages over the
target batches of one pass, even with `--batch-norm frozen` or a frozen backbone, because these
statistics are all that the method changes.
"""

import torch

from hf_wbc.adaptation.losses import entropy
from hf_wbc.adaptation.method import LossTerms, Method, TrainingInfo
from hf_wbc.adaptation.norm_layers import (
    average_statistics,
    batch_logits,
    batch_norms,
    reset_statistics,
)
from hf_wbc.data.batch import TargetBatch


class AdaBN(Method):
    """Re-estimates BatchNorm statistics on the target."""

    paper = "Li et al. 2016, arXiv:1603.04779"
    family = "source-free"
    limitations = (
        "class proportions differ, because the statistics depend on the mix of classes; a ViT has "
        "no BatchNorm to re-estimate."
    )
    adapt_passes = 1.0

    def setup(self, info: TrainingInfo) -> None:
        """Check that the classifier has BatchNorm layers that inputs pass through."""
        super().setup(info)
        if info.is_features and self.classifier.bottleneck is None:
            raise ValueError(
                "adabn re-estimates BatchNorm, but embedded features pass through none; add one "
                "with --bottleneck 256, or omit --inputs features"
            )
        if not batch_norms(self.classifier):
            raise ValueError(
                "adabn re-estimates BatchNorm, but this classifier has none (no ViT does); "
                "add one with --bottleneck 256"
            )

    def start_adapting(self) -> None:
        """Freeze all weights and reset the running statistics."""
        self.requires_grad_(False)
        reset_statistics(self.classifier)

    @torch.no_grad()
    def adapt(self, batch: TargetBatch) -> LossTerms:
        """Update the running statistics; the entropy is only logged."""
        logits = batch_logits(self.classifier, batch.target.inputs)
        average_statistics(self.classifier)
        return {"loss": entropy(logits).mean()}


METHOD = AdaBN
