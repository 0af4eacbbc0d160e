"""MIC: masked image consistency (Hoyer et al. 2022, arXiv:2212.01322).

On target images with masked blocks, the student learns to predict what a teacher predicts on the
whole image, so that it has to use context. The paper adds this loss to CDAN with MCC; here it is
used alone beside the supervised loss, and images are masked but not color-augmented.
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
    """Hyper-parameters of MIC."""

    weight: NotNegative = 1.0
    """Weight of the loss on masked images."""
    decay: ProperFraction = 0.9
    """Decay of the teacher."""
    block: Count = 64
    """Side of a masked block in pixels; an image has at least two blocks per side."""
    ratio: Fraction = 0.7
    """Probability that a block is masked."""


def mask_blocks(images: Tensor, block: int, ratio: float) -> Tensor:
    """Return normalized images with random blocks set to 0 (arXiv:2212.01322).

    Args:
        images: Normalized images (B, 3, H, W).
        block: Approximate side of a block in pixels, adjusted so that blocks tile the image.
        ratio: Probability that a block is masked.
    """
    height, width = images.shape[-2:]
    grid = max(2, round(height / block)), max(2, round(width / block))
    visible = torch.rand(len(images), 1, *grid, device=images.device) >= ratio
    return images * interpolate(visible.to(images.dtype), size=(height, width))


def mic_loss(z: Tensor, guide: Tensor) -> Tensor:
    """Return the mean cross-entropy () with the teacher's labels, weighted by its confidence.

    After Hoyer et al. 2022, arXiv:2212.01322, with the maximum probability as the weight.

    Args:
        z: The student's logits on masked images (B, C).
        guide: The teacher's logits on the whole images (B, C); no gradient.
    """
    confidence, labels = guide.detach().softmax(1).max(1)
    return (confidence * cross_entropy(z, labels, reduction="none")).mean()


class Mic(Method):
    """Consistency between masked and whole target images."""

    needs = Needs(target=True, images=True)
    Options = Options
    paper = "Hoyer et al. 2022, arXiv:2212.01322"
    family = "adaptation"
    limitations = "the teacher is wrong from the start, or a mask hides what identifies a cell."

    def setup(self, info: TrainingInfo) -> None:
        """Add the teacher."""
        super().setup(info)
        self.teacher = Teacher(self.classifier, self.options.decay)

    def fit(self, batch: Batch) -> LossTerms:
        """Return the supervised loss plus the loss on masked target images."""
        assert batch.target is not None
        images = batch.target.inputs
        hidden = mask_blocks(images, self.options.block, self.options.ratio)
        output_s, output_t = forward_together(self.classifier, batch.source.inputs, hidden)
        supervised = self.supervised_loss(output_s, batch)
        pseudo = mic_loss(output_t.logits.float(), self.teacher(images))
        loss = supervised + self.options.weight * pseudo
        return {"loss": loss, "supervised": supervised.detach(), "masked": pseudo.detach()}

    def after_step(self) -> None:
        """Update the teacher."""
        self.teacher.update(self.classifier)


METHOD = Mic
