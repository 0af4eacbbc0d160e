"""Labels of unlabelled samples by the nearest centroid, as SHOT has them (Liang et al. 2020)."""

import math

from torch import Tensor, nn


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
