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
def test_the_loss_and_its_gradient_are_the_papers(
    shape: tuple[int, int], temperature: float, assert_loss_is: Callable[..., None]
) -> None:
    logits = np.random.default_rng(0).normal(size=shape, scale=3)
    w = weights(logits, temperature)  # the weights carry no gradient
    assert_loss_is(
        lambda z: mcc_loss(z, temperature), lambda z: reference(z, w, temperature), logits
    )


def test_uniform_predictions_are_confused_by_all_but_one_of_the_classes() -> None:
    assert mcc_loss(torch.zeros(5, 11)).item() == pytest.approx(1 - 1 / 11)


def test_sure_predictions_of_every_class_are_not_confused() -> None:
    assert mcc_loss(1e4 * torch.eye(11).repeat(3, 1)).item() == pytest.approx(0)


def test_a_class_that_no_sample_has_keeps_value_and_gradient_finite() -> None:
    logits = (1e4 * torch.eye(11)[:4]).requires_grad_()
    loss = mcc_loss(logits)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


def test_the_targets_confusion_moves_the_classifier(
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
