"""MCC (Jin et al. 2020): class confusion of the target's softened predictions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from hf_wbc.adaptation import Method
from hf_wbc.adaptation.methods.mcc import mcc_loss
from hf_wbc.data.batch import Batch

SHAPES = [(1, 3), (2, 11), (7, 4), (20, 11)]


def weights(logits: np.ndarray, temperature: float) -> np.ndarray:
    p = softmax(logits / temperature, axis=1)
    entropy = -(p * np.log(p)).sum(1)
    certain = 1 + np.exp(-entropy)
    return len(p) * certain / certain.sum()


def reference(logits: np.ndarray, w: np.ndarray, temperature: float) -> float:
    """Compute class correlation, category normalization, and the off-diagonal mean."""
    p = softmax(logits / temperature, axis=1)
    correlation = p.T @ np.diag(w) @ p
    shares = correlation / correlation.sum(1, keepdims=True)
    return float((shares.sum() - np.trace(shares)) / p.shape[1])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_loss_and_gradient_match_paper(
    shape: tuple[int, int], temperature: float, assert_loss_is: Callable[..., None]
) -> None:
    logits = np.random.default_rng(0).normal(size=shape, scale=3)
    w = weights(logits, temperature)  # the weights carry no gradient
    assert_loss_is(
        lambda z: mcc_loss(z, temperature), lambda z: reference(z, w, temperature), logits
    )


def test_uniform_predictions_have_maximal_confusion() -> None:
    assert mcc_loss(torch.zeros(5, 11)).item() == pytest.approx(1 - 1 / 11)


def test_certain_predictions_have_zero_confusion() -> None:
    assert mcc_loss(1e4 * torch.eye(11).repeat(3, 1)).item() == pytest.approx(0)


def test_absent_class_stays_finite() -> None:
    logits = (1e4 * torch.eye(11)[:4]).requires_grad_()
    loss = mcc_loss(logits)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def test_method_lowers_target_confusion_through_classifier(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    batch = make_batch()
    without = make_method("mcc", small, weight=0.0)(batch)
    method = make_method("mcc", small, weight=2.0, temperature=1.5)
    terms = method(batch)
    _, output_t = method.forward_source_target(batch)
    expected = mcc_loss(output_t.logits, 1.5)
    torch.testing.assert_close(terms["loss"] - without["loss"], 2 * expected)
    gradients = [torch.autograd.grad(t["loss"], small.head.weight)[0] for t in (terms, without)]
    assert not torch.allclose(*gradients)


@pytest.mark.parametrize("options", [{"weight": -1}, {"temperature": 0}])
def test_options_out_of_range_are_refused(options: dict[str, float], make_method: Any) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} is"):
        make_method("mcc", None, **options)
