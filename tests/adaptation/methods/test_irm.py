"""IRMv1 (Arjovsky et al. 2019): the gradient of each source's risk in a scale of the logits."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from hf_wbc.adaptation import Method
from hf_wbc.adaptation.methods.irm import irm_penalty, scale_gradients
from hf_wbc.data.batch import Batch
from hf_wbc.taxonomy import NUM_CLASSES


def dummy_gradients(z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute d/dw of the cross-entropy of w * z at w = 1 by central differences."""
    rows, step = np.arange(len(z)), 1e-4

    def loss(w: float) -> np.ndarray:
        return -log_softmax(w * z, axis=1)[rows, labels]

    return (loss(1 + step) - loss(1 - step)) / (2 * step)


def reference(gradients: np.ndarray, domains: np.ndarray) -> float:
    """Average the products of all pairs of distinct samples within a domain, then over domains."""
    found = []
    for e in sorted(set(domains)):
        products = [a * b for a, b in combinations(gradients[domains == e], 2)]
        if products:
            found.append(np.mean(products))
    return float(np.mean(found)) if found else 0.0


@pytest.mark.parametrize("shape", [(1, 2), (5, 3), (6, NUM_CLASSES)])
def test_closed_form_matches_gradient_in_dummy_scale(
    shape: tuple[int, int], assert_loss_is: Callable[..., None]
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, shape[1], shape[0])
    assert_loss_is(
        lambda z: scale_gradients(z, torch.from_numpy(labels)).sum(),
        lambda z: float(dummy_gradients(z, labels).sum()),
        rng.normal(size=shape),
        step=1e-3,
    )


@pytest.mark.parametrize("domains", [(0, 1, 0, 1), (0, 0, 0, 2, 2, 1, 2), (1,), (0, 1, 1, 1, 1)])
def test_penalty_and_gradient_match_sum_over_pairs(
    domains: tuple[int, ...], assert_loss_is: Callable[..., None]
) -> None:
    whose = np.array(domains)
    assert_loss_is(
        lambda g: irm_penalty(g, torch.from_numpy(whose), 3),
        lambda g: reference(g, whose),
        np.random.default_rng(0).normal(size=len(domains)),
    )


def test_penalty_is_unbiased_estimate_of_squared_gradient() -> None:
    """The squared mean would exceed it by the variance over the number of samples, .25."""
    torch.manual_seed(0)
    found = [
        irm_penalty(0.5 + torch.randn(4), torch.zeros(4, dtype=torch.int64), 1).item()
        for _ in range(4000)
    ]
    assert np.mean(found) == pytest.approx(0.25, abs=4 * np.std(found) / 4000**0.5)
    assert 4 * np.std(found) / 4000**0.5 < 0.1


def test_gradient_vanishes_at_optimal_logit_scale() -> None:
    """With one sample of each label, the best scale is that of the true frequencies."""
    logits = torch.tensor([[2.0, 1.0, 1.0]]).log().expand(4, 3)
    gradients = scale_gradients(logits, torch.tensor([0, 0, 1, 2]))
    assert gradients.mean().abs() < 1e-6
    assert scale_gradients(3 * logits, torch.tensor([0, 0, 1, 2])).mean() > 0.1


def test_method_adds_weighted_penalty(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("irm", small, weight=5.0)
    batch = make_batch((0, 3, 8, 9, 10, 8), domains=(0, 0, 0, 1, 1, 1))
    labels = batch.source.labels.numpy()
    z = small(batch.source.inputs).logits.detach().double().numpy()
    penalty = reference(dummy_gradients(z, labels), np.array([0, 0, 0, 1, 1, 1]))
    plain = -log_softmax(z, axis=1)[np.arange(6), labels].mean()
    for progress, weight in ((0.0, 1.0), (0.5, 5.0)):
        terms = method(replace(batch, progress=progress))
        assert terms["penalty"].item() == pytest.approx(penalty, rel=1e-3)
        assert terms["loss"].item() == pytest.approx(plain + weight * penalty, rel=1e-3)
