"""Perfect-classifier outputs, shared by the tests of prior estimation."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

Array = NDArray[np.float64]


@pytest.fixture(scope="session")
def images() -> Callable[..., tuple[Array, NDArray[np.int64]]]:
    """Draw classifier outputs; see `draw_images`."""
    return draw_images


def draw_images(
    num: int, shares: Sequence[float], seed: int = 0, spread: float = 0.8
) -> tuple[Array, NDArray[np.int64]]:
    """Draw log-likelihoods (N, C) of 6-dimensional Gaussian classes, and labels of given shares."""
    means = np.random.default_rng(100).normal(size=(len(shares), 6)) * spread
    generator = np.random.default_rng(seed)
    labels = generator.choice(len(shares), num, p=shares)
    x = means[labels] + generator.normal(size=(num, 6))
    return -((x[:, None] - means) ** 2).sum(2) / 2, labels
