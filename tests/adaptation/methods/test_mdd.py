"""MDD (Zhang et al. 2019): a second head that agrees on the source and disagrees on the target."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from hf_wbc.adaptation.losses import reversal_strength
from hf_wbc.adaptation.methods.mdd import mdd_loss


def reference(
    z_s: np.ndarray, adv_s: np.ndarray, z_t: np.ndarray, adv_t: np.ndarray, gamma: float
) -> float:
    p_s, p_t = softmax(adv_s, axis=1), softmax(adv_t, axis=1)
    source = [-np.log(p[z.argmax()]) for p, z in zip(p_s, z_s, strict=True)]
    target = [-np.log(1 - p[z.argmax()]) for p, z in zip(p_t, z_t, strict=True)]
    return float(gamma * np.mean(source) + np.mean(target))


@pytest.mark.parametrize(("num_s", "num_t", "c"), [(5, 5, 4), (1, 3, 11), (6, 2, 2)])
@pytest.mark.parametrize("gamma", [1.0, 4.0])
def test_loss_and_gradient_match_paper(
    num_s: int, num_t: int, c: int, gamma: float, assert_loss_is
) -> None:
    rng = np.random.default_rng(0)
    shapes = [(num_s, c), (num_s, c), (num_t, c), (num_t, c)]
    assert_loss_is(
        lambda *a: mdd_loss(*a, gamma),
        lambda *a: reference(*a, gamma=gamma),
        *(2 * rng.normal(size=shape) for shape in shapes),
    )


def test_loss_of_two_samples_matches_manual_result() -> None:
    """Source: classes 0 and 1 with p 3/4 and 1/2; target: 1 and 1 with p 1/4 and 1/2."""
    three = float(np.log(3))
    z_s = torch.tensor([[1.0, 0], [0, 1]])
    adv_s = torch.tensor([[three, 0], [0, 0]])
    z_t = torch.tensor([[0.0, 1], [0, 1]])
    adv_t = torch.tensor([[three, 0], [0, 0]])
    by_hand = 4 * (np.log(4 / 3) + np.log(2)) / 2 + (np.log(4 / 3) + np.log(2)) / 2
    assert mdd_loss(z_s, adv_s, z_t, adv_t, 4.0).item() == pytest.approx(by_hand, rel=1e-6)


def test_full_agreement_on_target_has_large_finite_loss() -> None:
    z = torch.tensor([[1.0, 0, 0]])
    adv = torch.tensor([[1e4, 0, 0]], requires_grad=True)
    loss = mdd_loss(z, torch.zeros(1, 3), z, adv, 4.0)
    loss.backward()
    assert loss.item() == pytest.approx(4 * np.log(3) + 1e4 - np.log(2))
    torch.testing.assert_close(adv.grad, torch.tensor([[1.0, -0.5, -0.5]]))


def test_reversed_gradient_reaches_features_but_not_first_head(
    make_method, small, make_batch
) -> None:
    method = make_method("mdd", small, weight=2.0, gamma=3.0, strength=0.4, width=32).eval()
    batch = replace(make_batch(num_target=4), progress=0.3)
    batch.target.inputs.requires_grad_()
    terms = method(batch)
    of_s, of_t = small(batch.source.inputs), small(batch.target.inputs)
    expected = mdd_loss(
        of_s.logits, method.adversary(of_s.features),
        of_t.logits, method.adversary(of_t.features), 3.0,
    )  # fmt: skip
    torch.testing.assert_close(terms["disparity"], expected)
    torch.testing.assert_close(terms["loss"], terms["supervised"] + 2 * expected)
    weights = [batch.target.inputs, *method.adversary.parameters()]
    found = torch.autograd.grad(terms["loss"], weights, retain_graph=True)
    wanted = torch.autograd.grad(2 * expected, weights)
    assert wanted[0].abs().max() > 1e-5
    strength = 0.4 * reversal_strength(0.3, 10.0)
    torch.testing.assert_close(found[0], -strength * wanted[0])
    for one, other in zip(found[1:], wanted[1:], strict=True):
        torch.testing.assert_close(one, other)
    (of_head,) = torch.autograd.grad(terms["loss"], small.head.weight)
    (of_labels,) = torch.autograd.grad(method.supervised_loss(of_s, batch), small.head.weight)
    torch.testing.assert_close(of_head, of_labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1}, "weight is -1; it must not be negative"),
        ({"gamma": 0}, "gamma is 0; it must be positive"),
        ({"strength": -1}, "strength is -1; it must not be negative"),
        ({"width": 0}, "width is 0; it must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message, make_method, small) -> None:
    with pytest.raises(ValueError, match=message):
        make_method("mdd", small, **options)
