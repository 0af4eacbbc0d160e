"""Class prototypes on embedded features: each cell gets the class with the nearest mean feature.

Snell et al. 2017, arXiv:1703.05175. The squared Euclidean distance to a prototype is linear in the
features, apart from a term that all classes share, so the head is a plain linear layer.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from hf_wbc.adaptation.closed_form import ClosedFormMethod, LinearHead, class_means
from hf_wbc.adaptation.method import MethodOptions

__all__ = ["METHOD", "Prototypes", "prototype_head"]


@dataclass(frozen=True)
class PrototypeOptions(MethodOptions):
    """Options of class prototypes."""

    metric: Literal["euclidean", "cosine"] = "euclidean"
    """`euclidean`, or `cosine` for prototypes of unit length and no bias."""


class Prototypes(ClosedFormMethod):
    """The nearest class mean; nothing is trained."""

    Options = PrototypeOptions
    paper = "Snell et al. 2017, arXiv:1703.05175"
    limitations = "a class has several appearances, so that its mean resembles none of them."

    def head(self, features: Tensor, labels: Tensor) -> LinearHead:
        """Return the head of standardized features (N, d) with labels (N,)."""
        return prototype_head(features, labels, self.options.metric)


def prototype_head(features: Tensor, labels: Tensor, metric: str = "euclidean") -> LinearHead:
    """Return the head whose largest logit belongs to the nearest prototype.

    Logits are minus half the squared distance, up to a term that all classes share, divided by the
    number of features. For `cosine`, the length of a cell's feature scales its logits but does not
    change their order.

    Args:
        features: Features (N, d), float64.
        labels: Class ids in 0..C-1 (N,), each with a sample.
        metric: `euclidean` or `cosine`.
    """
    means = class_means(features, labels)
    if metric == "cosine":
        means = means / means.norm(dim=1, keepdim=True)
        return LinearHead(means, means.new_zeros(len(means)))
    num_features = features.shape[1]
    return LinearHead(means / num_features, -0.5 * (means**2).sum(1) / num_features)


METHOD = Prototypes
