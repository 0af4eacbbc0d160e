"""The teacher: a moving average of the student's weights that receives no gradients."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hf_wbc.adaptation.teacher import Teacher


def at(small: nn.Module, value: float) -> nn.Module:
    """Set every weight and running statistic of the student to one value."""
    for tensor in [*small.parameters(), *small.buffers()]:
        tensor.data.fill_(value)
    return small


def test_weights_and_statistics_follow_minimum_of_decay_and_ramp(small: Any) -> None:
    teacher = Teacher(at(small, 1.0), 0.3)
    expected, decays = 1.0, []
    for step, value in enumerate((0.0, 2.0, 5.0, 1.0, 7.0)):
        decays.append(min(0.3, (step + 1) / (step + 10)))
        expected = decays[-1] * expected + (1 - decays[-1]) * value
        teacher.update(at(small, value))
    assert decays[0] == 0.1 and decays[-1] == 0.3
    for tensor in teacher.classifier.parameters():
        torch.testing.assert_close(tensor, torch.full_like(tensor, expected))
    torch.testing.assert_close(teacher.classifier.norm.running_var, torch.full((6,), expected))


def test_ramp_weights_steps_by_closed_form(small: Any) -> None:
    """A step weighs 9 T! (s + 9)! / ((T + 9)! (s + 1)!), the initial weights 9! T! / (T + 9)!."""
    num_steps = 30
    first = math.factorial(9) * math.factorial(num_steps) / math.factorial(num_steps + 9)
    found = []
    for counted in range(-1, num_steps):
        teacher = Teacher(at(small, float(counted < 0)), 0.999)
        for step in range(num_steps):
            teacher.update(at(small, float(step == counted)))
        found.append(teacher.classifier.head.bias[0].item())
    of_step = [
        9 * math.prod(range(s + 2, s + 10)) / math.prod(range(num_steps + 1, num_steps + 10))
        for s in range(num_steps)
    ]
    np.testing.assert_allclose(found, [first, *of_step], rtol=1e-4, atol=1e-9)
    assert sum(found) == pytest.approx(1, rel=1e-5) and sum(found[-6:]) > 0.8


def test_constant_weights_stay_bit_identical(small: Any) -> None:
    torch.nn.init.constant_(small.head.bias, -1e4)
    teacher = Teacher(small, 0.99)
    for _ in range(20):
        with torch.no_grad():
            small.project.weight += 1
        teacher.update(small)
    for name in ("head.bias", "head.weight"):
        kept = teacher.classifier.get_parameter(name)
        assert torch.equal(kept, small.get_parameter(name))


def test_teacher_without_decay_equals_student(small: Any) -> None:
    teacher = Teacher(copy.deepcopy(small), 0.0)
    teacher.update(at(small, 2.5))
    for mine, theirs in zip(teacher.classifier.parameters(), small.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_counters_are_copied(small: Any) -> None:
    teacher = Teacher(small, 0.99)
    small.norm.num_batches_tracked += 5
    teacher.update(small)
    assert teacher.classifier.norm.num_batches_tracked == 5


def test_teacher_never_trains_and_stays_in_eval_mode(small: Any) -> None:
    teacher = Teacher(small, 0.9)
    around = nn.ModuleList([teacher, small]).train()
    assert around.training and small.training
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in small.parameters())
    inputs = torch.randn(5, 6, requires_grad=True)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    assert not teacher(inputs).requires_grad
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize("num_before", [0, 3])
def test_teacher_state_round_trips(small: Any, num_before: int) -> None:
    """The state includes the update count as a tensor, so a resumed run continues the ramp."""
    first = Teacher(at(small, 1.0), 0.9)
    for _ in range(num_before):
        first.update(at(small, 2.0))
    second = Teacher(at(small, -1.0), 0.9)
    assert all(isinstance(value, torch.Tensor) for value in first.state_dict().values())
    second.load_state_dict(first.state_dict())
    for teacher in (first, second):
        teacher.update(at(small, 3.0))
    assert torch.equal(first.classifier.head.weight, second.classifier.head.weight)
    assert second.num_updates == num_before + 1


def test_teacher_logits_are_fp32_under_autocast(small: Any) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Teacher(small, 0.9)(torch.randn(5, 6)).dtype == torch.float32
