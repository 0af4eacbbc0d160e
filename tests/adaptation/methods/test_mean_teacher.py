"""Mean teacher (Tarvainen & Valpola 2017): the student follows its own moving average."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from hf_wbc.adaptation import Method
from hf_wbc.adaptation.methods.mean_teacher import consistency_loss, gaussian_ramp
from hf_wbc.data.batch import Batch


def reference(z: np.ndarray, guide: np.ndarray) -> float:
    return float(((softmax(z, axis=1) - softmax(guide, axis=1)) ** 2).mean())


@pytest.mark.parametrize("shape", [(1, 11), (5, 3), (16, 11)])
def test_loss_and_gradient_match_paper(
    shape: tuple[int, int], assert_loss_is: Callable[..., None]
) -> None:
    z, guide = np.random.default_rng(0).normal(size=(2, *shape), scale=2)
    fixed = torch.tensor(guide)
    assert_loss_is(lambda z: consistency_loss(z, fixed), lambda z: reference(z, guide), z)


def test_teacher_gets_no_gradient_and_agreement_costs_nothing() -> None:
    guide = torch.randn(4, 11, requires_grad=True)
    assert consistency_loss(guide.detach() + 1, guide).item() == pytest.approx(0, abs=1e-12)
    assert not consistency_loss(guide.detach(), guide).requires_grad


def test_opposite_certain_predictions_cost_two_over_num_classes() -> None:
    z = 1e3 * torch.eye(11)
    assert consistency_loss(z, z.roll(1, 0)).item() == pytest.approx(2 / 11)


def test_weight_ramps_up_as_in_paper() -> None:
    found = [gaussian_ramp(progress, 0.25) for progress in (0.0, 0.125, 0.25, 0.9)]
    assert found == pytest.approx([math.exp(-5), math.exp(-1.25), 1, 1])
    assert gaussian_ramp(0.0, 0.0) == 1


def test_student_strong_view_is_compared_with_teacher_weak_view(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    batch = make_batch(progress=0.125)
    method = make_method("mean_teacher", small, weight=5.0)
    with torch.no_grad():
        method.teacher.classifier.head.weight.neg_()
    terms = method(batch)
    inputs = torch.cat([batch.source.inputs, batch.target.strong])
    strong = small(inputs).logits[6:].detach().numpy()
    weak = method.teacher.classifier(batch.target.inputs).logits.numpy()
    expected = reference(strong, weak)
    assert terms["consistency"].item() == pytest.approx(expected, rel=1e-4)
    part = (terms["loss"] - terms["supervised"]).item()
    assert part == pytest.approx(5 * math.exp(-1.25) * expected, rel=1e-4)
    late = method(replace(batch, progress=0.5))
    gradients = [torch.autograd.grad(t["loss"], small.head.weight)[0] for t in (terms, late)]
    assert not torch.allclose(*gradients)


def test_eval_model_is_the_teacher_which_moves_only_after_a_step(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("mean_teacher", small)
    assert method.eval_model is method.teacher.classifier is not small
    with torch.no_grad():
        small.head.weight += 1
    before = method.eval_model.head.weight.clone()
    method(make_batch())
    assert torch.equal(method.eval_model.head.weight, before)
    method.after_step()
    assert not torch.equal(method.eval_model.head.weight, before)
    assert not method.eval_model.training and small.training


@pytest.mark.parametrize("options", [{"weight": -1}, {"decay": 1.0}, {"ramp_up": 1.5}])
def test_options_out_of_range_are_refused(options: dict[str, float], make_method: Any) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} is"):
        make_method("mean_teacher", None, **options)
