"""EATA: TENT on reliable, non-redundant samples (Niu et al. 2022, arXiv:2204.02610).

A sample counts if its entropy H is below `threshold * ln C` and its prediction differs from the
moving mean of earlier predictions; its weight is exp(threshold * ln C - H). The Fisher regularizer
is omitted (the paper then calls the method ETA): it preserves accuracy on the source, which is not
a goal here, and needs each sample's gradient at the start of the phase.
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
    """Hyper-parameters of EATA."""

    threshold: PositiveFraction = 0.4
    """Entropy limit of a reliable sample, as a fraction of ln C."""
    margin: PositiveFraction = 0.4
    """Cosine similarity with the mean prediction that makes a sample redundant; the paper uses 0.4
    for ten classes."""
    momentum: ProperFraction = 0.9
    """Momentum of the mean prediction."""


def eata_weights(logits: Tensor, mean: Tensor, threshold: float, margin: float) -> Tensor:
    """Return sample weights (B,) without gradient, 0 for unreliable and redundant samples.

    Niu et al. 2022, arXiv:2204.02610.

    Args:
        logits: Target logits (B, C).
        mean: Mean prediction so far (C,), or zeros, to which no prediction is similar.
        threshold: Entropy limit in nats.
        margin: Cosine similarity with the mean that makes a sample redundant.
    """
    logits = logits.detach()
    found = entropy(logits)
    similarity = torch.cosine_similarity(logits.softmax(1), mean[None])
    counts = (found < threshold) & (similarity.abs() < margin)
    return (threshold - found).exp() * counts


def eata_loss(logits: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean entropy () over the samples with a positive weight.

    Args:
        logits: Target logits (B, C).
        weights: Sample weights (B,), see `eata_weights`.
    """
    number = (weights > 0).float().sum().clamp(min=1)
    return (weights * entropy(logits)).sum() / number


class Eata(Tent):
    """Entropy minimization on reliable, non-redundant target samples."""

    Options = Options
    paper = "Niu et al. 2022, arXiv:2204.02610 (without the Fisher regularizer)"
    limitations = (
        "few target predictions pass the threshold, or one class makes up most of the target: its "
        "samples become redundant, and rare and wrong predictions dominate."
    )
    mean: Tensor
    """Moving mean of the predictions that counted (K,); zeros before the first."""

    def setup(self, info: TrainingInfo) -> None:
        """Add the moving mean prediction."""
        super().setup(info)
        self.register_buffer("mean", torch.zeros(self.supervised.num_present))

    def adapt(self, batch: TargetBatch) -> LossTerms:
        """Return the weighted entropy, and the fraction of samples that counted."""
        logits = all_gather_batch(batch_logits(self.classifier, batch.target.inputs))
        logits = self.supervised.select_present(logits)
        limit = self.options.threshold * math.log(self.supervised.num_present)
        weights = eata_weights(logits, self.mean, limit, self.options.margin)
        counted = (weights > 0).float()
        self._remember(logits.detach().softmax(1), counted)
        return {"loss": eata_loss(logits, weights), "counted": counted.mean()}

    def _remember(self, predictions: Tensor, counted: Tensor) -> None:
        """Update the mean prediction with that of the samples that count, if any."""
        new = (predictions * counted[:, None]).sum(0) / counted.sum().clamp(min=1)
        momentum = self.options.momentum * (
            self.mean.sum() > 0
        )  # the first update replaces the zeros
        moved = momentum * self.mean + (1 - momentum) * new
        self.mean.copy_(torch.where(counted.sum() > 0, moved, self.mean))


METHOD = Eata
