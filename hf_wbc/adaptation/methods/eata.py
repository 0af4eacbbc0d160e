"""EATA: TENT on reliable, non-redundant samples (Niu et al. 2022, arXiv:2204.02610).

A sample counts when its entropy is below `threshold` ln C, weighted by exp(threshold ln C - H), and
when its prediction differs from the moving mean of earlier ones. The Fisher regulariser is left out
(the paper calls the method then ETA): it is there to keep the source's accuracy, which is no aim
here, and needs each sample's gradient at the start of the phase.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hf_wbc.adaptation.losses import all_gather_batch, entropy
from hf_wbc.adaptation.method import (
    LossTerms,
    MethodOptions,
    PositiveFraction,
    ProperFraction,
    TrainingInfo,
)
from hf_wbc.adaptation.methods.tent import Tent
from hf_wbc.adaptation.norm_layers import batch_logits
from hf_wbc.data.batch import TargetBatch


@dataclass(frozen=True)
class Options(MethodOptions):
    threshold: PositiveFraction = 0.4
    """Entropy above which a sample is unreliable, as a fraction of ln C."""
    margin: PositiveFraction = 0.4
    """Cosine to the mean prediction from which a sample is redundant; .4 for ten classes."""
    momentum: ProperFraction = 0.9
    """Of the mean prediction."""


def eata_weights(logits: Tensor, mean: Tensor, threshold: float, margin: float) -> Tensor:
    """Weights (B,) of samples with logits (B, C), 0 for those that do not count; no gradient.

    `mean` (C,) is the mean prediction so far, or zeros, to which nothing is similar; `threshold`
    is in nats.
    """
    logits = logits.detach()
    found = entropy(logits)
    similarity = torch.cosine_similarity(logits.softmax(1), mean[None])
    counts = (found < threshold) & (similarity.abs() < margin)
    return (threshold - found).exp() * counts


class Eata(Tent):
    Options = Options
    paper = "Niu et al. 2022, arXiv:2204.02610 (without the Fisher regulariser)"
    limitations = (
        "few target predictions are below the threshold, or one class makes up most of the target: "
        "its samples are then redundant, and rare and wrong predictions lead."
    )
    mean: Tensor
    """Moving mean of the predictions that counted (K,), zeros before the first."""

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        self.register_buffer("mean", torch.zeros(self.supervised.num_present))

    def adapt(self, batch: TargetBatch) -> LossTerms:
        logits = all_gather_batch(batch_logits(self.classifier, batch.target.inputs))
        logits = self.supervised.select_present(logits)
        limit = self.options.threshold * math.log(self.supervised.num_present)
        weights = eata_weights(logits, self.mean, limit, self.options.margin)
        counted = (weights > 0).float()
        number = counted.sum().clamp(min=1)
        self._remember(logits.detach().softmax(1), counted)
        loss = (weights * entropy(logits)).sum() / number
        return {"loss": loss, "counted": counted.mean()}

    def _remember(self, predictions: Tensor, counted: Tensor) -> None:
        """Move the mean towards that of the samples that count, if any does."""
        new = (predictions * counted[:, None]).sum(0) / counted.sum().clamp(min=1)
        momentum = self.options.momentum * (self.mean.sum() > 0)  # the first replaces the zeros
        moved = momentum * self.mean + (1 - momentum) * new
        self.mean.copy_(torch.where(counted.sum() > 0, moved, self.mean))


METHOD = Eata
