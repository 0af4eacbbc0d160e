"""Linear discriminant analysis on embedded features, with a shrunken covariance.

All classes share one covariance, which is shrunk towards a multiple of the identity by the factor
of Ledoit & Wolf 2004, "A well-conditioned estimator for large-dimensional covariance matrices".
Classes count equally, whatever their number of cells.
"""

import torch
from torch import Tensor

from hf_wbc.adaptation.closed_form import ClosedFormMethod, LinearHead, class_means

__all__ = ["METHOD", "Lda", "lda_head"]


class Lda(ClosedFormMethod):
    """Linear discriminant analysis with shrinkage; nothing is trained."""

    paper = "Ledoit & Wolf 2004, doi 10.1016/S0047-259X(03)00096-4"
    limitations = "classes differ in their spread, or features are far from normal."

    def head(self, features: Tensor, labels: Tensor) -> LinearHead:
        """Return the head of standardized features (N, d) with labels (N,)."""
        return lda_head(features, labels)


def lda_head(features: Tensor, labels: Tensor) -> LinearHead:
    """Return the linear discriminant of classes with equal priors.

    Args:
        features: Features (N, d), float64.
        labels: Class ids in 0..C-1 (N,), each with a sample.
    """
    from sklearn.covariance import ledoit_wolf

    means = class_means(features, labels)
    within, _ = ledoit_wolf((features - means[labels]).cpu().numpy(), assume_centered=True)
    covariance = torch.as_tensor(within, dtype=features.dtype, device=features.device)
    weight = torch.linalg.solve(covariance, means.T).T
    return LinearHead(weight, -0.5 * (weight * means).sum(1))


METHOD = Lda
