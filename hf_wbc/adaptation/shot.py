"""SHOT: a frozen head, and features that it is sure of (Liang et al. 2020, arXiv:2002.08546).

Information maximisation (sure of each sample, diverse over all) and cross-entropy to pseudo-labels,
each the class of the nearest centroid among all target samples, from a memory of features and
predictions by row. In a first pass it only looks, with a loss of 0: the paper labels the whole
target before it learns. The paper's diversity wants as many of each class, which is wrong under
label shift; with `prior` "estimated" it wants the mix that the model saw in that first pass.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hf_wbc.adaptation._centroids import pseudo_labels
from hf_wbc.adaptation._contract import Method, Needs, Setting, Terms
from hf_wbc.adaptation._entropy import concentration, entropy
from hf_wbc.adaptation._gather import whole
from hf_wbc.adaptation._norms import no_dropout
from hf_wbc.adaptation._options import Checked, NotNegative
from hf_wbc.data.batch import TargetBatch


@dataclass(frozen=True)
class Options(Checked):
    beta: NotNegative = 0.3
    """Weight of the pseudo-labels."""
    diversity: NotNegative = 1.0
    """Weight of the diversity."""
    prior: Literal["uniform", "estimated"] = "uniform"
    """Class proportions that diversity wants: the paper's, or the model's own first estimate."""


class Shot(Method):
    needs = Needs(index=True)
    Options = Options
    paper = "Liang et al. 2020, arXiv:2002.08546"
    family = "source-free"
    fails_when = (
        "classes are unequally frequent in the target: diversity forces a uniform prior, so rare "
        "classes are filled with others' cells (see the options prior and diversity)."
    )
    adapt_passes = 16.0  # the paper's 15, after one that looks
    features: Tensor
    """Of each target sample as last seen (num_target, d)."""
    predictions: Tensor
    """Likewise (num_target, C); zeros where it has not been seen."""
    prior: Tensor
    """The mean prediction (C,) of the first pass, smoothed by one image of each class."""

    def setup(self, setting: Setting) -> None:
        super().setup(setting)
        head = {id(parameter) for parameter in self.classifier.head.parameters()}
        if all(id(p) in head for p in self.classifier.parameters() if p.requires_grad):
            raise ValueError(
                "shot freezes the head, and nothing else learns here; use --trainable full, or "
                "--bottleneck 256"
            )
        num_classes = setting.class_counts.shape[1]
        shape = (setting.num_target, self.classifier.num_features)
        self.register_buffer("features", torch.zeros(shape))
        self.register_buffer("predictions", torch.zeros(setting.num_target, num_classes))
        self.register_buffer("prior", torch.full((num_classes,), 1 / num_classes))

    def start_adapting(self) -> None:
        self.classifier.head.requires_grad_(False)

    def adapt(self, batch: TargetBatch) -> Terms:
        no_dropout(self.classifier)
        output = self.classifier(batch.target.inputs)
        logits = output.logits.float()
        p = logits.softmax(1)
        looks = batch.progress < 1 / self.adapt_passes
        self._remember(batch.target.index, output.features.detach().float(), p.detach(), looks)
        with torch.autocast(logits.device.type, enabled=False):
            labels = pseudo_labels(self.features, self.predictions)[batch.target.index]
        parts = {
            "entropy": entropy(logits).mean(),
            "concentration": concentration(whole(p), self.prior),
            "pseudo": nn.functional.cross_entropy(logits, labels),
        }
        options = self.options
        loss = parts["entropy"] + options.diversity * parts["concentration"]
        loss = loss + options.beta * parts["pseudo"]
        return {"loss": (not looks) * loss, **parts}

    def _remember(self, index: Tensor, features: Tensor, p: Tensor, looks: bool) -> None:
        rows = whole(index)
        self.features[rows] = whole(features)
        self.predictions[rows] = whole(p)
        if looks and self.options.prior == "estimated":
            total = self.predictions.sum(0) + 1
            self.prior.copy_(total / total.sum())


METHOD = Shot
