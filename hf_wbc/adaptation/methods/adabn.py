"""AdaBN: BatchNorm statistics re-estimated on the target (Li et al. 2016, arXiv:1603.04779).

No weight learns. Every layer's mean and variance become averages over the target batches of one
pass, --batch-norm frozen and a frozen backbone notwithstanding: that is all that the method is.
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
    paper = "Li et al. 2016, arXiv:1603.04779"
    family = "source-free"
    limitations = (
        "class proportions differ: the statistics are of the mix of classes, and the target's mix "
        "is taken for the source's; a ViT has no BatchNorm at all."
    )
    adapt_passes = 1.0

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        if info.is_features and self.classifier.bottleneck is None:
            raise ValueError(
                "adabn re-estimates BatchNorm, and embedded features pass none; add one with "
                "--bottleneck 256, or leave out --inputs features"
            )
        if not batch_norms(self.classifier):
            raise ValueError(
                "adabn re-estimates BatchNorm, and this classifier has none (no ViT does); "
                "add one with --bottleneck 256"
            )

    def start_adapting(self) -> None:
        self.requires_grad_(False)
        reset_statistics(self.classifier)

    @torch.no_grad()
    def adapt(self, batch: TargetBatch) -> LossTerms:
        logits = batch_logits(self.classifier, batch.target.inputs)
        average_statistics(self.classifier)
        return {"loss": entropy(logits).mean()}


METHOD = AdaBN
