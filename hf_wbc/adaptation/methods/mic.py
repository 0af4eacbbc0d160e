"""MIC: with blocks of it masked, a target image is what a teacher takes the whole one for (Hoyer et
al. 2022, arXiv:2212.01322).

So context has to make up for what is hidden. The paper adds this to CDAN with MCC; here it stands
alone beside the supervised loss, and images are only masked, not coloured anew.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate

from hf_wbc.adaptation.losses import forward_together
from hf_wbc.adaptation.method import (
    Count,
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


@dataclass(frozen=True)
class Options(MethodOptions):
    """Of MIC."""

    weight: NotNegative = 1.0
    """Of the loss on masked images."""
    decay: ProperFraction = 0.9
    """Of the teacher."""
    block: Count = 64
    """Side of a masked block in pixels; an image has at least two blocks to a side."""
    ratio: Fraction = 0.7
    """Probability that a block is masked."""


def mask_blocks(images: Tensor, block: int, ratio: float) -> Tensor:
    """Normalised images (B, 3, H, W) with a part of their blocks at 0, drawn for each image.

    The blocks are as near to `block` pixels as makes them fill the image evenly.
    """
    height, width = images.shape[-2:]
    grid = max(2, round(height / block)), max(2, round(width / block))
    kept = torch.rand(len(images), 1, *grid, device=images.device) >= ratio
    return images * interpolate(kept.to(images.dtype), size=(height, width))


def mic_loss(z: Tensor, guide: Tensor) -> Tensor:
    """Cross-entropy of logits z (B, C) with the guide's labels, times its confidence in each.

    The mean over B samples. The guide's logits (B, C) get no gradient.
    """
    confidence, labels = guide.detach().softmax(1).max(1)
    return (confidence * cross_entropy(z, labels, reduction="none")).mean()


class Mic(Method):
    needs = Needs(target=True, images=True)
    Options = Options
    paper = "Hoyer et al. 2022, arXiv:2212.01322"
    family = "adaptation"
    limitations = "the teacher is wrong from the start, or a mask hides all that tells a cell."

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        self.teacher = Teacher(self.classifier, self.options.decay)

    def fit(self, batch: Batch) -> LossTerms:
        assert batch.target is not None
        images = batch.target.inputs
        hidden = mask_blocks(images, self.options.block, self.options.ratio)
        output_s, output_t = forward_together(self.classifier, batch.source.inputs, hidden)
        supervised = self.supervised_loss(output_s, batch)
        pseudo = mic_loss(output_t.logits.float(), self.teacher(images))
        loss = supervised + self.options.weight * pseudo
        return {"loss": loss, "supervised": supervised.detach(), "masked": pseudo.detach()}

    def after_step(self) -> None:
        self.teacher.update(self.classifier)


METHOD = Mic
