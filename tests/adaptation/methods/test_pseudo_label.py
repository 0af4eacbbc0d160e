"""Pseudo-labels (Lee 2013) with a confidence threshold."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax

from hf_wbc.adaptation import Method
from hf_wbc.adaptation.methods.pseudo_label import linear_ramp, pseudo_label_loss
from hf_wbc.data.batch import Batch

SHAPES = [(1, 11), (5, 3), (16, 11)]


def reference(z: np.ndarray, guide: np.ndarray, threshold: float) -> float:
    total = 0.0
    for row, by in zip(z, guide, strict=True):
        p = softmax(by)
        if p.max() >= threshold:
            total += logsumexp(row) - row[p.argmax()]
    return float(total / len(z))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.9])
def test_loss_is_cross_entropy_with_confident_labels_only(
    shape: tuple[int, int], threshold: float, assert_loss_is: Callable[..., None]
) -> None:
    rng = np.random.default_rng(0)
    z, guide = rng.normal(size=shape), rng.normal(size=shape, scale=4)
    assert_loss_is(
        lambda z, guide: pseudo_label_loss(z, guide, threshold)[0],
        lambda z, guide: reference(z, guide, threshold),
        z,
        guide,
    )
    sure = pseudo_label_loss(torch.tensor(z), torch.tensor(guide), threshold)[1]
    assert sure.item() == pytest.approx((softmax(guide, axis=1).max(1) >= threshold).mean())


def test_no_loss_or_gradient_without_confident_samples() -> None:
    z = torch.randn(4, 11, requires_grad=True)
    loss, sure = pseudo_label_loss(z, torch.zeros(4, 11), 0.95)
    loss.backward()
    assert loss == 0 and sure == 0 and not z.grad.any()


def test_own_label_increases_confidence() -> None:
    z = torch.tensor([[2.0, 0.0, 1.0]], requires_grad=True)
    pseudo_label_loss(z, z, 0.0)[0].backward()
    assert z.grad[0, 0] < 0 < z.grad[0, 1]


def test_weight_grows_linearly() -> None:
    found = [linear_ramp(progress, 0.1, 0.6) for progress in (0.0, 0.1, 0.35, 0.6, 0.9)]
    assert found == pytest.approx([0, 0, 0.5, 1, 1])


def test_target_labels_move_classifier_after_ramp_up(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    batch = make_batch(progress=0.35)
    method = make_method("pseudo_label", small, weight=4.0, threshold=0.1)
    terms, early = method(batch), method(replace(batch, progress=0.05))
    _, output_t = method.forward_source_target(batch)
    expected = reference(*[output_t.logits.detach().numpy()] * 2, 0.1)
    assert expected > 0
    assert (terms["loss"] - terms["supervised"]).item() == pytest.approx(2 * expected, rel=1e-4)
    assert early["loss"] == early["supervised"]
    gradients = [torch.autograd.grad(t["loss"], small.head.weight)[0] for t in (terms, early)]
    assert not torch.allclose(*gradients)


@pytest.mark.parametrize(
    "options", [{"weight": -1}, {"threshold": 1.5}, {"start": 1.0}, {"full": 0.1}, {"full": 1.1}]
)
def test_options_out_of_range_are_refused(options: dict[str, float], make_method: Any) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} is"):
        make_method("pseudo_label", None, **options)
