"""Linear heads on embedded features that are computed instead of trained.

All functions work on plain tensors. N is the number of samples, d the width of the features, C the
number of classes. A head is a pair of weights (C, d) and biases (C,); logits are
`features @ weights.T + bias`.

Features can be standardized by domain: the source by its own mean and standard deviation, the
target by its own. As this is an affine map of each feature, it is folded into the head, which then
expects features of the target as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from hf_wbc.adaptation.method import Family, Method, MethodOptions, Needs, TrainingInfo
from hf_wbc.data.batch import Batch

__all__ = [
    "ClosedFormMethod",
    "LinearHead",
    "StandardizedMethod",
    "StandardizedOptions",
    "class_means",
    "combat_statistics",
    "fold_standardization",
]

Statistics = tuple[Tensor, Tensor]
"""Mean and standard deviation of each feature (d,)."""
_TINY = 1e-6


class LinearHead(NamedTuple):
    """A linear classifier of features."""

    weight: Tensor
    """Weights (C, d)."""
    bias: Tensor
    """Biases (C,)."""


class ClosedFormMethod(Method):
    """A head that is computed once from all source features; no weight is trained."""

    needs = Needs()
    family: ClassVar[Family] = "generalization"
    closed_form = True
    config_overrides: ClassVar[Mapping[str, Any]] = {
        "steps": 1,
        "eval_steps": 1,
        "bottleneck": 0,
        "selection": "last",
    }

    def setup(self, info: TrainingInfo) -> None:
        """Check that features are given, and freeze all weights.

        Raises:
            ValueError: If the run trains on images, or on features with a bottleneck.
        """
        super().setup(info)
        if not info.is_features or self.classifier.bottleneck is not None:
            raise ValueError(
                f"{self.name()} computes a head on embedded features; use --inputs features, "
                "without --bottleneck"
            )
        self.requires_grad_(False)

    @torch.no_grad()
    def solve(self, features: Tensor, labels: Tensor, target: Tensor | None) -> None:
        """Compute the head and write it to the classifier.

        Args:
            features: Source features (N, d).
            labels: Class ids (N,).
            target: Unlabeled features of the target (M, d), if there is one.
        """
        features = features.double()
        mean, std = features.mean(0), features.std(0).clamp(min=_TINY)
        present = torch.unique(labels)
        compact = torch.searchsorted(present, labels)
        head = self.head((features - mean) / std, compact)
        weight, bias = fold_standardization(head, *self.statistics((mean, std), target))
        own = self.classifier.head
        own.weight[present] = weight.to(own.weight)
        own.bias[present] = bias.to(own.bias)

    def statistics(self, source: Statistics, target: Tensor | None) -> Statistics:
        """Return the mean and std (d,) by which features are standardized at prediction."""
        return source

    def head(self, features: Tensor, labels: Tensor) -> LinearHead:
        """Return the head of standardized features (N, d) with labels (N,) in 0..C-1, float64."""
        raise NotImplementedError

    def fit(self, batch: Batch) -> dict[str, Tensor]:
        """Return the supervised loss, which is only logged."""
        return {"loss": self.supervised_loss(self.classifier(batch.source.inputs), batch)}


@dataclass(frozen=True)
class StandardizedOptions(MethodOptions):
    """Options of heads for features that are standardized by the target."""

    standardize: Literal["full", "half", "combat"] = "full"
    """By the target's own statistics, by the mean of both domains' (half), or by the target's own
    after shrinkage towards the source's (combat)."""


class StandardizedMethod(ClosedFormMethod):
    """A computed head for features that are standardized by each domain's own statistics."""

    needs = Needs(target=True)
    family: ClassVar[Family] = "adaptation"
    Options = StandardizedOptions

    def statistics(self, source: Statistics, target: Tensor | None) -> Statistics:
        """Return the mean and std (d,) by which the target's features are standardized."""
        assert target is not None
        if self.options.standardize == "combat":
            return combat_statistics(source, target)
        target = target.double()
        mean, std = target.mean(0), target.std(0).clamp(min=_TINY)
        if self.options.standardize == "full":
            return mean, std
        return (source[0] + mean) / 2, (source[1] + std) / 2


def class_means(features: Tensor, labels: Tensor) -> Tensor:
    """Return the mean feature of each class (C, d); every class in 0..C-1 needs a sample."""
    num = int(labels.max()) + 1
    sums = torch.zeros(num, features.shape[1], dtype=features.dtype, device=features.device)
    sums.index_add_(0, labels, features)
    return sums / torch.bincount(labels, minlength=num)[:, None]


def fold_standardization(head: LinearHead, mean: Tensor, std: Tensor) -> LinearHead:
    """Return the head of raw features that equals a head of standardized features.

    Args:
        head: Head of `(features - mean) / std`.
        mean: Mean of each feature (d,).
        std: Standard deviation of each feature (d,).
    """
    weight = head.weight / std
    return LinearHead(weight, head.bias - weight @ mean)


def combat_statistics(source: Statistics, target: Tensor) -> Statistics:
    """Return the target's mean and std (d,) after ComBat's empirical Bayes shrinkage.

    Johnson et al. 2007, "Adjusting batch effects in microarray expression data using empirical
    Bayes methods", for one batch (the target) against a reference (the source). On features
    standardized by the source, the target's mean has a normal prior and its variance an inverse
    gamma prior; both priors are estimated from all features by moments, and the posterior is found
    by iteration.

    Args:
        source: Mean and standard deviation of the source (d,) each.
        target: Features of the target (M, d).
    """
    values = (target.double() - source[0]) / source[1]
    num = len(values)
    gamma, delta = values.mean(0), values.var(0).clamp(min=_TINY)
    prior_mean, prior_var = gamma.mean(), gamma.var().clamp(min=_TINY)
    center, spread = delta.mean(), delta.var().clamp(min=_TINY)
    shape, scale = 2 + center**2 / spread, center + center**3 / spread
    mean, var = gamma.clone(), delta.clone()
    for _ in range(100):
        new_mean = (num * prior_var * gamma + var * prior_mean) / (num * prior_var + var)
        squares = ((values - new_mean) ** 2).sum(0)
        new_var = (scale + 0.5 * squares) / (0.5 * num + shape - 1)
        change = max((new_mean - mean).abs().max(), (new_var - var).abs().max())
        mean, var = new_mean, new_var
        if change < 1e-8:
            break
    return source[0] + source[1] * mean, source[1] * var.sqrt()
