"""BNM (Cui et al. 2020): the nuclear norm of the target predictions."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from hf_wbc.adaptation import Method
from hf_wbc.adaptation.methods.bnm import nuclear_norm
from hf_wbc.data.batch import Batch

SHAPES = [(1, 11), (3, 11), (11, 11), (20, 11), (6, 2)]


def reference(p: np.ndarray) -> float:
    """Return the trace of the square root of the Gram matrix, divided by the number of samples."""
    gram = p @ p.T if len(p) < p.shape[1] else p.T @ p
    return float(np.sqrt(np.linalg.eigvalsh(gram).clip(0)).sum() / len(p))


def probabilities(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(shape[1]), shape[0])


@pytest.mark.parametrize("shape", SHAPES)
def test_nuclear_norm_and_gradient_match_paper(
    shape: tuple[int, int], assert_loss_is: Callable[..., None]
) -> None:
    assert_loss_is(nuclear_norm, reference, probabilities(shape))


@pytest.mark.parametrize("num_each", [1, 4])
def test_certain_balanced_predictions_reach_maximum(num_each: int) -> None:
    p = torch.eye(11).repeat(num_each, 1)
    assert nuclear_norm(p).item() == pytest.approx(1 / math.sqrt(num_each))


@pytest.mark.parametrize("num", [1, 6, 40])
def test_uniform_predictions_have_minimal_norm(num: int) -> None:
    assert nuclear_norm(torch.full((num, 11), 1 / 11)).item() == pytest.approx((num * 11) ** -0.5)


@pytest.mark.parametrize("num", [1, 2, 16, 64])
def test_identical_predictions_get_identical_finite_gradients(num: int) -> None:
    """The matrix has rank 1; gradient of || 1 p^T ||_* / B = |p| / sqrt(B) is p / (|p| sqrt(B))."""
    row = torch.from_numpy(probabilities((1, 11))).float()
    p = row.repeat(num, 1).requires_grad_()
    nuclear_norm(p).backward()
    expected = row / row.norm() / math.sqrt(num) / num
    torch.testing.assert_close(p.grad, expected.expand(num, -1))


def test_repeated_rows_keep_gradient_finite() -> None:
    p = torch.from_numpy(probabilities((4, 11))).float().repeat(5, 1).requires_grad_()
    nuclear_norm(p).backward()
    assert torch.isfinite(p.grad).all()
    torch.testing.assert_close(p.grad[:4], p.grad[4:8], atol=1e-6, rtol=1e-4)


def test_method_raises_target_norm_through_classifier(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    batch = make_batch()
    without = make_method("bnm", small, weight=0.0)(batch)
    method = make_method("bnm", small, weight=3.0)
    terms = method(batch)
    _, output_t = method.forward_source_target(batch)
    expected = nuclear_norm(output_t.logits.softmax(1))
    torch.testing.assert_close(terms["loss"] - without["loss"], -3 * expected)
    gradients = [torch.autograd.grad(t["loss"], small.head.weight)[0] for t in (terms, without)]
    assert not torch.allclose(*gradients)


def test_negative_weight_is_refused(make_method: Any) -> None:
    with pytest.raises(ValueError, match="weight is -1"):
        make_method("bnm", None, weight=-1)
