"""SHOT: source hypothesis transfer (Liang et al. 2020, arXiv:2002.08546).

The head is frozen, and the features learn from target images alone. The loss is information
maximization (confident on each sample, diverse over all) plus the cross-entropy with pseudo-labels:
each sample gets the class of the nearest centroid among all target samples, from a memory of their
features and predictions. The first pass only fills the memory, with a loss of 0: in the paper the
whole target is labeled before training. The paper's diversity term favors equal class proportions,
which is wrong under label shift; with `prior` "estimated" it favors the proportions that the model
predicts in that first pass.

Differences from the paper: no label smoothing in the source phase; and pseudo-labels are recomputed
in every step from the last features seen of each sample, instead of once per epoch in a separate
pass.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hf_wbc.adaptation.losses import all_gather_batch, entropy, prior_divergence
from hf_wbc.adaptation.method import (
    LossTerms,
    Method,
    MethodOptions,
    Needs,
    NotNegative,
    TrainingInfo,
)
from hf_wbc.adaptation.norm_layers import train_without_dropout
from hf_wbc.data.batch import TargetBatch


def pseudo_labels(features: Tensor, p: Tensor) -> Tensor:
    """Return the class of the nearest centroid by cosine similarity (N,), int64.

    Centroids are means weighted by the predictions, and in a second round means over the labels of
    the first (Liang et al. 2020, arXiv:2002.08546). A class that is not the most likely
    one of any sample has no centroid.

    Args:
        features: Features (N, d).
        p: Class probabilities (N, C); rows of zeros are samples that were not seen yet.
    """
    num_classes = p.shape[1]
    seen = (p.sum(1, keepdim=True) > 0).to(p.dtype)
    members = nn.functional.one_hot(p.argmax(1), num_classes) * seen
    weights = p
    for _ in range(2):
        centroids = nn.functional.normalize(weights.T @ features, dim=1)
        near = (features @ centroids.T).masked_fill(members.sum(0) == 0, -math.inf)
        weights = members = nn.functional.one_hot(near.argmax(1), num_classes) * seen
    return near.argmax(1)


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of SHOT."""

    beta: NotNegative = 0.3
    """Weight of the cross-entropy with pseudo-labels."""
    diversity: NotNegative = 1.0
    """Weight of the diversity term."""
    prior: Literal["uniform", "estimated"] = "uniform"
    """Class proportions that the diversity term favors: uniform as in the paper, or the model's own
    first estimate."""


def shot_loss(
    logits: Tensor, labels: Tensor, prior: Tensor, beta: float = 0.3, diversity: float = 1.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return SHOT's loss on unlabeled target samples (arXiv:2002.08546) and its terms.

    Args:
        logits: Target logits (B, C).
        labels: Pseudo-labels (B,), see `pseudo_labels`.
        prior: Class proportions that the diversity term favors (C,).
        beta: Weight of the cross-entropy with pseudo-labels.
        diversity: Weight of the diversity term.

    Returns:
        The loss (), and its unweighted terms `entropy`, `concentration` and `pseudo`.
    """
    p = logits.softmax(1)  # before the entropy: gradients add up in this order, bit for bit
    terms = {
        "entropy": entropy(logits).mean(),
        "concentration": prior_divergence(all_gather_batch(p), prior),
        "pseudo": nn.functional.cross_entropy(logits, labels),
    }
    loss = terms["entropy"] + diversity * terms["concentration"] + beta * terms["pseudo"]
    return loss, terms


class Shot(Method):
    """Information maximization and nearest-centroid pseudo-labels with a frozen head."""

    needs = Needs(index=True, features=True)
    Options = Options
    paper = "Liang et al. 2020, arXiv:2002.08546"
    family = "source-free"
    limitations = (
        "the target's classes are imbalanced: diversity forces a uniform prior, so rare classes "
        "are filled with cells of others (see the options prior and diversity)."
    )
    adapt_passes = 16.0  # 15 as in the paper, after one that fills the memory
    features: Tensor
    """Last features seen of each target sample (num_target, d); exists in the second phase."""
    predictions: Tensor
    """Last class probabilities, likewise (num_target, K); zeros for samples not seen yet."""
    prior: Tensor
    """Class proportions that the diversity term favors (K,)."""

    def setup(self, info: TrainingInfo) -> None:
        """Check the number of passes, and start from a uniform prior."""
        super().setup(info)
        self.num_target = info.num_target
        if (passes := info.adapt_passes) <= 1:
            times = math.ceil(self.adapt_passes / passes) if passes else 0
            more = f"use {times} times as many steps, or " if times else ""
            raise ValueError(
                f"--adapt-steps gives {passes:.3g} passes over the target, but shot trains only "
                f"after the first one; {more}omit it for {self.adapt_passes:g} passes"
            )
        self.register_buffer("prior", torch.ones(self.supervised.num_present).softmax(0))

    def start_adapting(self) -> None:
        """Freeze the head and create the memory."""
        self.classifier.head.requires_grad_(False)
        widths = {"features": self.classifier.num_features, "predictions": len(self.prior)}
        for name, width in widths.items():
            self.register_buffer(name, self.prior.new_zeros(self.num_target, width))

    def adapt(self, batch: TargetBatch) -> LossTerms:
        """Return SHOT's loss, which is 0 in the first pass."""
        train_without_dropout(self.classifier)
        output = self.classifier(batch.target.inputs)
        logits = self.supervised.select_present(output.logits).float()
        p = logits.softmax(1)
        first_pass = batch.epochs < 1
        self._remember(batch.target.index, output.features.detach().float(), p.detach(), first_pass)
        with torch.autocast(logits.device.type, enabled=False):
            labels = pseudo_labels(self.features, self.predictions)[batch.target.index]
        options = self.options
        loss, terms = shot_loss(logits, labels, self.prior, options.beta, options.diversity)
        return {"loss": (not first_pass) * loss, **terms}

    def _remember(self, index: Tensor, features: Tensor, p: Tensor, first_pass: bool) -> None:
        """Store what was seen of the target samples of all processes."""
        rows = all_gather_batch(index)
        self.features[rows], self.predictions[rows] = (
            all_gather_batch(features),
            all_gather_batch(p),
        )
        if first_pass and self.options.prior == "estimated":
            total = self.predictions.sum(0) + 1
            self.prior.copy_(total / total.sum())


METHOD = Shot
