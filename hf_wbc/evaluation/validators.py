"""Unsupervised validators: score a classifier on N unlabeled images; higher is better.

All functions take plain arrays. The rows of `probabilities` (N, C), and `priors` (C,), sum to 1.
Scores that reward diversity assume equally frequent classes; their `_prior` variants take known or
estimated class priors instead, and give the same ranking if the priors are uniform.

- Confidence and diversity: `entropy`, `info_max`, `bnm`, `softmax_corr`, `agreement`.
- Neighborhoods: `snd`.
- Clusters: `class_ami` (Musgrave et al. 2022, Three new validators, arXiv:2208.07360), in NumPy,
  because importing scikit-learn takes longer than a hundred evaluations.

Target risk (`dev`) is in `hf_wbc.evaluation.target_risk`.
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, gammaln, rel_entr, xlogy

from hf_wbc.taxonomy import NUM_CLASSES

Floats = NDArray[np.floating[Any]]


MIN_PRIOR = 1e-3
"""Lower bound of estimated priors, because a class with an estimated prior of 0 may still occur."""


def entropy(probabilities: Floats) -> float:
    """Return the negative mean entropy of the predictions; higher is better.

    Source: Morerio et al. 2018 (arXiv:1711.10288).

    Args:
        probabilities: Predicted probabilities (N, C).

    Returns:
        A value in [-ln C, 0]; 0 for certain predictions.

    Examples:
        >>> entropy(np.array([[1.0, 0.0], [1.0, 0.0]]))
        0.0
    """
    return 0.0 - float(entr(probabilities).sum(1).mean())


def info_max(probabilities: Floats) -> float:
    """Return the mutual information of image and prediction; higher is better.

    This is H(mean p) - mean H(p). Information maximization is the loss of SHOT (Liang et al. 2020,
    arXiv:2002.08546), and a validator in Musgrave et al. 2022 (arXiv:2208.07360).

    Args:
        probabilities: Predicted probabilities (N, C).

    Returns:
        A value in [0, ln C].
    """
    return float(entr(probabilities.mean(0)).sum()) + entropy(probabilities)


def info_max_prior(probabilities: Floats, priors: Floats) -> float:
    """Return -KL(mean p || priors) - mean H(p); higher is better.

    Args:
        probabilities: Predicted probabilities (N, C).
        priors: Class priors of the target (C,).

    Returns:
        A value of at most 0; for uniform priors, `info_max` - ln C.
    """
    return entropy(probabilities) - float(rel_entr(probabilities.mean(0), _raised(priors)).sum())


def bnm(probabilities: Floats) -> float:
    """Return the nuclear norm of the predictions, divided by sqrt(N C); higher is better.

    Batch nuclear-norm maximization (Cui et al. 2020, arXiv:2003.12237).

    Args:
        probabilities: Predicted probabilities (N, C).

    Returns:
        A value in (0, 1]: 1 for certain predictions evenly spread over all classes, 1 / sqrt(C) if
        all are certain and of one class, 1 / C if all are uniform.
    """
    return float(np.linalg.norm(probabilities, "nuc") / np.sqrt(probabilities.size))


def bnm_prior(probabilities: Floats, priors: Floats) -> float:
    """Return `bnm` of the predictions with columns scaled by sqrt(C prior); higher is better.

    For certain predictions it is the Bhattacharyya coefficient of the predicted class frequencies
    and the priors.

    Args:
        probabilities: Predicted probabilities (N, C).
        priors: Class priors of the target (C,).

    Returns:
        A value in (0, 1]; for certain predictions, 1 exactly if their frequencies equal the priors.
    """
    scale = np.sqrt(probabilities.shape[1] * _raised(priors))
    return bnm(probabilities * scale)


def softmax_corr(probabilities: Floats) -> float:
    """Return the cosine of the class correlation P^T P / N and the identity; higher is better.

    SoftmaxCorr (Tu et al. 2024, arXiv:2406.09908).

    Args:
        probabilities: Predicted probabilities (N, C).

    Returns:
        A value in [1 / sqrt(C), 1]: 1 for certain predictions evenly spread over all classes, 1 /
        sqrt(C) if all are of one class, or all the same.
    """
    return _corr(probabilities, np.ones(probabilities.shape[1]))


def softmax_corr_prior(probabilities: Floats, priors: Floats) -> float:
    """Return the cosine of the class correlation and the diagonal of the priors; higher is better.

    Args:
        probabilities: Predicted probabilities (N, C).
        priors: Class priors of the target (C,).

    Returns:
        A value of at most 1; 1 for certain predictions whose class frequencies equal the priors.
    """
    return _corr(probabilities, _raised(priors))


def agreement(probabilities: Floats, ensemble: Floats | None) -> float:
    """Return the fraction of predictions that agree with the ensemble; higher is better.

    Disagreement between models predicts their error (Jiang et al. 2022, arXiv:2106.13799).

    Args:
        probabilities: Predicted probabilities (N, C).
        ensemble: Mean prediction of all earlier evaluations (N, C), or None.

    Returns:
        A value in [0, 1]; 0 without an ensemble.
    """
    if ensemble is None:
        return 0.0
    return float((probabilities.argmax(1) == ensemble.argmax(1)).mean())


def _corr(probabilities: Floats, diagonal: Floats) -> float:
    correlation = probabilities.T @ probabilities
    norms = np.linalg.norm(correlation) * np.linalg.norm(diagonal)
    return float(np.diagonal(correlation) @ diagonal / norms)


def _raised(priors: Floats) -> NDArray[np.float64]:
    raised: NDArray[np.float64] = np.maximum(np.asarray(priors, np.float64), MIN_PRIOR)
    raised /= raised.sum()
    return raised


Float = TypeVar("Float", bound=np.floating[Any])
MAX_SND_IMAGES = 10_000
"""Maximum number of images; larger sets are subsampled at even spacing."""
SND_CHUNK = 500


def snd(features: NDArray[np.floating[Any]], temperature: float = 0.05) -> float:
    """Return the soft neighborhood density; higher is better.

    This is the mean entropy of each image's similarities to all others: the softmax of cosine
    similarities divided by the temperature, without the image itself (Saito et al. 2021,
    arXiv:2108.10860).

    Args:
        features: Features (N, d); the paper uses the softmax outputs.
        temperature: Temperature of the softmax over the similarities.

    Returns:
        A value in [0, ln(N - 1)]; 0 for fewer than three images.
    """
    rows = np.asarray(features[evenly_spaced(len(features), MAX_SND_IMAGES)], np.float32)
    if len(rows) < 3:
        return 0.0
    rows = unit_rows(rows)
    total = 0.0
    for start in range(0, len(rows), SND_CHUNK):
        chunk = rows[start : start + SND_CHUNK]
        similarity = chunk @ rows.T / np.float32(temperature)
        itself = np.arange(len(chunk))
        similarity[itself, start + itself] = -np.inf
        similarity -= similarity.max(1, keepdims=True)
        weight = np.exp(similarity)
        similarity[itself, start + itself] = 0
        mass = weight.sum(1, dtype=np.float64)
        energy = np.einsum("ij,ij->i", weight, similarity)
        total += float((np.log(mass) - energy / mass).sum())
    return total / len(rows)


def unit_rows(features: NDArray[Float]) -> NDArray[Float]:
    """Scale features (N, d) to unit length; rows of zeros stay zero."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    found: NDArray[Float] = features / np.maximum(lengths, 1e-12)
    return found


def evenly_spaced(num: int, most: int) -> NDArray[np.int64]:
    """Return the indices of at most `most` of `num` rows, evenly spaced.

    Examples:
        >>> evenly_spaced(7, 3).tolist(), evenly_spaced(2, 3).tolist()
        ([0, 2, 4], [0, 1])
    """
    taken = min(num, most)
    return np.arange(taken) * num // max(taken, 1)


Ints = NDArray[np.integer[Any]]
MAX_CLUSTERED_IMAGES = 1000
"""Maximum number of images; larger sets are subsampled at even spacing."""
NUM_KMEANS_STARTS = 3


def class_ami(features: Floats, predicted: Ints, num_clusters: int = NUM_CLASSES) -> float:
    """Return the adjusted mutual information of k-means clusters and predictions; higher is better.

    Class AMI (Musgrave et al. 2022, arXiv:2208.07360).

    Args:
        features: Features (N, d).
        predicted: Predicted class ids (N,).
        num_clusters: Number of clusters.

    Returns:
        A value of at most 1; about 0 by chance, and 0 if all predictions are of one class.
    """
    rows = evenly_spaced(len(features), MAX_CLUSTERED_IMAGES)
    clusters = k_means(features[rows].astype(np.float32), num_clusters)
    return adjusted_mutual_information(predicted[rows], clusters)


def k_means(features: Floats, num_clusters: int, max_iterations: int = 50) -> NDArray[np.int64]:
    """Cluster features (N, d); return the cluster of each row (N,).

    Takes the best of several k-means++ starts, with a fixed seed.
    """
    rng = np.random.default_rng(0)
    found = [_lloyd(features, _spread(features, num_clusters, rng), max_iterations)
             for _ in range(NUM_KMEANS_STARTS)]  # fmt: skip
    return min(found, key=lambda each: each[0])[1]


def adjusted_mutual_information(a: Ints, b: Ints) -> float:
    """Return (MI - E) / (mean entropy - E), where E is the expected MI of random labelings.

    Source: Vinh et al. 2010.

    Args:
        a: Labels (N,).
        b: Labels (N,).

    Returns:
        A value of at most 1; 0 if a labeling has only one label.
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
    """Return the mean MI over all pairs of labelings with these counts, a hypergeometric sum."""
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
    """Draw k-means++ centers, each with probability proportional to its squared distance."""
    centers = [features[rng.integers(len(features))]]
    nearest = ((features - centers[0]) ** 2).sum(1)
    while len(centers) < num_clusters and nearest.any():
        total = nearest.cumsum(dtype=np.float64)
        drawn = int(np.searchsorted(total, rng.random() * total[-1], side="right"))
        centers.append(features[min(drawn, len(features) - 1)])
        nearest = np.minimum(nearest, ((features - centers[-1]) ** 2).sum(1))
    return np.stack(centers)


def _lloyd(
    features: Floats, centers: Floats, max_iterations: int
) -> tuple[float, NDArray[np.int64]]:
    """Run Lloyd's algorithm; return the inertia up to a constant, and the cluster of each row."""
    labels = np.full(len(features), -1)
    for _ in range(max_iterations):
        distances = (centers**2).sum(1) - 2 * features @ centers.T
        moved = distances.argmin(1)
        if (moved == labels).all():
            break
        labels = moved
        member = (labels == np.arange(len(centers))[:, None]).astype(features.dtype)
        counts = member.sum(1, keepdims=True)
        centers = np.where(counts > 0, member @ features / np.maximum(counts, 1), centers)
    return float(distances.min(1).sum(dtype=np.float64)), labels
