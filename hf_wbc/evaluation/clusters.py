"""Do predicted classes follow the clusters of the features? ClassAMI, with what it is made of.

Musgrave et al. 2022, Three new validators (arXiv:2208.07360). In numpy, as importing scikit-learn
takes longer than a hundred evaluations; its own k-means and AMI are the reference in the tests.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, gammaln, xlogy

from hf_wbc.evaluation.neighbours import evenly
from hf_wbc.taxonomy import NUM_CLASSES

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
MOST = 1000
"""Images, at most; of more, evenly spaced ones are taken."""
STARTS = 3


def class_ami(features: Floats, predicted: Ints, num_clusters: int = NUM_CLASSES) -> float:
    """Adjusted mutual information of k-means clusters and predicted classes, at most 1.

    Features (N, d), predicted (N,). About 0 by chance, and 0 when all predictions are of one class.
    """
    rows = evenly(len(features), MOST)
    clusters = k_means(features[rows].astype(np.float32), num_clusters)
    return adjusted_mutual_information(predicted[rows], clusters)


def k_means(features: Floats, num_clusters: int, max_iterations: int = 50) -> NDArray[np.int64]:
    """Cluster of each row (N,), the tightest of a few k-means++ starts, always the same draws."""
    rng = np.random.default_rng(0)
    found = [_lloyd(features, _spread(features, num_clusters, rng), max_iterations)
             for _ in range(STARTS)]  # fmt: skip
    return min(found, key=lambda each: each[0])[1]


def adjusted_mutual_information(a: Ints, b: Ints) -> float:
    """(MI - E) / (mean entropy - E), E the expected MI of random labels (Vinh et al. 2010).

    0 when one of the labellings (N,) has a single label.
    """
    a, b = (np.unique(each, return_inverse=True)[1] for each in (a, b))
    table = np.bincount(a * (b.max() + 1) + b, minlength=(a.max() + 1) * (b.max() + 1))
    table = table.reshape(a.max() + 1, b.max() + 1)
    num, sums_a, sums_b = len(a), table.sum(1), table.sum(0)
    entropy_a, entropy_b = (float(entr(sums / num).sum()) for sums in (sums_a, sums_b))
    shared = entropy_a + entropy_b - float(entr(table / num).sum())
    chance = _expected_information(sums_a, sums_b)
    room = (entropy_a + entropy_b) / 2 - chance
    return (shared - chance) / room if room > 1e-9 else 0.0


def _expected_information(sums_a: Ints, sums_b: Ints) -> float:
    """Mean MI over all pairs of labellings with these counts: a hypergeometric sum."""
    num, most = int(sums_a.sum()), int(min(sums_a.max(), sums_b.max()))
    n = np.arange(1, most + 1)
    a, b = sums_a[:, None, None], sums_b[None, :, None]
    possible = (n <= a) & (n <= b) & (n >= a + b - num)
    log_factorial = gammaln(np.arange(num + 1) + 1.0)

    def logs(counts: Ints) -> NDArray[np.float64]:
        found: NDArray[np.float64] = log_factorial[np.clip(counts, 0, num)]
        return found

    log_p = logs(a) + logs(b) + logs(num - a) + logs(num - b) - logs(np.array(num))
    log_p = log_p - logs(n) - logs(a - n) - logs(b - n) - logs(num - a - b + n)
    information = xlogy(n / num, num * n / (a * b))
    return float((np.exp(log_p, where=possible, out=np.zeros(log_p.shape)) * information).sum())


def _spread(features: Floats, num_clusters: int, rng: np.random.Generator) -> Floats:
    """k-means++ centres: each drawn with odds as its squared distance to those before it."""
    centres = [features[rng.integers(len(features))]]
    nearest = ((features - centres[0]) ** 2).sum(1)
    while len(centres) < num_clusters and nearest.any():
        total = nearest.cumsum(dtype=np.float64)
        drawn = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
        centres.append(features[min(drawn, len(features) - 1)])
        nearest = np.minimum(nearest, ((features - centres[-1]) ** 2).sum(1))
    return np.stack(centres)


def _lloyd(
    features: Floats, centres: Floats, max_iterations: int
) -> tuple[float, NDArray[np.int64]]:
    """Sum of squared distances up to a constant, and the cluster of each row."""
    labels = np.full(len(features), -1)
    for _ in range(max_iterations):
        distances = (centres**2).sum(1) - 2 * features @ centres.T
        moved = distances.argmin(1)
        if (moved == labels).all():
            break
        labels = moved
        member = (labels == np.arange(len(centres))[:, None]).astype(features.dtype)
        counts = member.sum(1, keepdims=True)
        centres = np.where(counts > 0, member @ features / np.maximum(counts, 1), centres)
    return float(distances.min(1).sum(dtype=np.float64)), labels
