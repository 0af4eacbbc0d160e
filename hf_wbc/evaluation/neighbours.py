"""Who is alike: features at unit length, and the soft neighbourhood density of a target."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", bound=np.floating[Any])
MOST = 10_000
"""Images, at most; of more, evenly spaced ones are taken."""
CHUNK = 500


def snd(features: NDArray[np.floating[Any]], temperature: float = 0.05) -> float:
    """Mean entropy of each image's similarities to all others, in [0, ln(N - 1)]; higher is better.

    Saito et al. 2021 (arXiv:2108.10860): cosines over the temperature, through a softmax that
    leaves the image itself out. The paper's `features` (N, d) are the softmax outputs.
    """
    rows = np.asarray(features[evenly(len(features), MOST)], np.float32)
    if len(rows) < 3:
        return 0.0
    rows = unit(rows)
    total = 0.0
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
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


def unit(features: NDArray[Float]) -> NDArray[Float]:
    """Features (N, d) at length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    found: NDArray[Float] = features / np.maximum(lengths, 1e-12)
    return found


def evenly(num: int, most: int) -> NDArray[np.int64]:
    """Indices of at most so many of `num` rows, evenly spaced.

    >>> evenly(7, 3).tolist(), evenly(2, 3).tolist()
    ([0, 2, 4], [0, 1])
    """
    taken = min(num, most)
    return np.arange(taken) * num // max(taken, 1)
