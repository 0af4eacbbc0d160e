"""SHOT: a frozen head, and features that it is sure of (Liang et al. 2020, arXiv:2002.08546).

Information maximisation (sure of each sample, diverse over all) and cross-entropy to pseudo-labels,
each the class of the nearest centroid among all target samples, from a memory of features and
predictions by row. In a first pass it only looks, with a loss of 0: the paper labels the whole
target before it learns. The paper's diversity wants as many of each class, which is wrong under
label shift; with `prior` "estimated" it wants the mix that the model saw in that first pass.

Other than in the paper, labels are not smoothed in the source phase, and pseudo-labels are found
anew in every step from each sample as last seen, not once in an epoch from a pass of its own.

Labels of unlabelled samples by the nearest centroid, as SHOT has them (Liang et al. 2020)."""

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
    """Class of the nearest centroid by cosine (N,), of features (N, d) and predictions (N, C).

    Centroids are means weighted by predictions, then means by the labels found. Rows of zeros are
    samples not seen yet; a class that no sample is likeliest of has no centroid.
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
    beta: NotNegative = 0.3
    """Weight of the pseudo-labels."""
    diversity: NotNegative = 1.0
    """Weight of the diversity."""
    prior: Literal["uniform", "estimated"] = "uniform"
    """Class proportions that diversity wants: the paper's, or the model's own first estimate."""


class Shot(Method):
    needs = Needs(index=True, features=True)
    Options = Options
    paper = "Liang et al. 2020, arXiv:2002.08546"
    family = "source-free"
    limitations = (
        "classes are unequally frequent in the target: diversity forces a uniform prior, so rare "
        "classes are filled with others' cells (see the options prior and diversity)."
    )
    adapt_passes = 16.0  # the paper's 15, after one that looks
    features: Tensor
    """Of each target sample as last seen (num_target, d); from the second phase on."""
    predictions: Tensor
    """Likewise (num_target, K), of the classes that a source has; zeros where not seen."""
    prior: Tensor
    """Class proportions (K,) that diversity wants."""

    def setup(self, info: TrainingInfo) -> None:
        super().setup(info)
        self.num_target = info.num_target
        if (passes := info.adapt_passes) <= 1:
            times = math.ceil(self.adapt_passes / passes) if passes else 0
            more = f"make it {times} times that, or " if times else ""
            raise ValueError(
                f"--adapt-steps gives {passes:.3g} passes over the target, and in the first one "
                f"shot only looks; {more}leave it out, for {self.adapt_passes:g} passes"
            )
        self.register_buffer("prior", torch.ones(self.supervised.num_present).softmax(0))

    def start_adapting(self) -> None:
        self.classifier.head.requires_grad_(False)
        widths = {"features": self.classifier.num_features, "predictions": len(self.prior)}
        for name, width in widths.items():
            self.register_buffer(name, self.prior.new_zeros(self.num_target, width))

    def adapt(self, batch: TargetBatch) -> LossTerms:
        train_without_dropout(self.classifier)
        output = self.classifier(batch.target.inputs)
        logits = self.supervised.select_present(output.logits).float()
        p = logits.softmax(1)
        looks = batch.epochs < 1
        self._remember(batch.target.index, output.features.detach().float(), p.detach(), looks)
        with torch.autocast(logits.device.type, enabled=False):
            labels = pseudo_labels(self.features, self.predictions)[batch.target.index]
        parts = {
            "entropy": entropy(logits).mean(),
            "concentration": prior_divergence(all_gather_batch(p), self.prior),
            "pseudo": nn.functional.cross_entropy(logits, labels),
        }
        weights = 1.0, self.options.diversity, self.options.beta
        loss = sum(w * part for w, part in zip(weights, parts.values(), strict=True))
        return {"loss": (not looks) * loss, **parts}

    def _remember(self, index: Tensor, features: Tensor, p: Tensor, looks: bool) -> None:
        rows = all_gather_batch(index)
        self.features[rows], self.predictions[rows] = (
            all_gather_batch(features),
            all_gather_batch(p),
        )
        if looks and self.options.prior == "estimated":
            total = self.predictions.sum(0) + 1
            self.prior.copy_(total / total.sum())


METHOD = Shot
