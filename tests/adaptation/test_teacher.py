"""The teacher: a geometric mean of the student's weights that never learns."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from hf_wbc.adaptation._teacher import Teacher


def at(small: nn.Module, value: float) -> nn.Module:
    """The student with every weight and running statistic at a value."""
    for tensor in [*small.parameters(), *small.buffers()]:
        tensor.data.fill_(value)
    return small


def test_without_ramp_up_it_is_the_geometric_mean_of_the_students_weights(small: Any) -> None:
    teacher = Teacher(at(small, 4.0), 0.8, ramp_up=False)
    for value in (1.0, 2.0, 3.0):
        teacher.update(at(small, value))
    expected = 0.8**3 * 4 + 0.2 * (0.8**2 * 1 + 0.8 * 2 + 3)
    for tensor in teacher.classifier.parameters():
        torch.testing.assert_close(tensor, torch.full_like(tensor, expected))
    torch.testing.assert_close(teacher.classifier.norm.running_var, torch.full((6,), expected))


def test_ramping_up_the_first_steps_follow_the_student(small: Any) -> None:
    teacher = Teacher(at(small, 1.0), 0.3)
    expected, decays = 1.0, []
    for step, value in enumerate((0.0, 2.0, 5.0, 1.0, 7.0)):
        decays.append(min(0.3, (step + 1) / (step + 10)))
        expected = decays[-1] * expected + (1 - decays[-1]) * value
        teacher.update(at(small, value))
    assert decays[0] == 0.1 and decays[-1] == 0.3
    weight = teacher.classifier.head.weight
    torch.testing.assert_close(weight, torch.full_like(weight, expected))


def test_without_decay_it_is_the_student(small: Any) -> None:
    teacher = Teacher(copy.deepcopy(small), 0.0)
    teacher.update(at(small, 2.5))
    for mine, theirs in zip(teacher.classifier.parameters(), small.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_counters_are_copied(small: Any) -> None:
    teacher = Teacher(small, 0.99)
    small.norm.num_batches_tracked += 5
    teacher.update(small)
    assert teacher.classifier.norm.num_batches_tracked == 5


def test_it_is_a_copy_that_never_learns_and_stays_in_evaluation_mode(small: Any) -> None:
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
def test_its_state_goes_through_a_state_dict(small: Any, num_before: int) -> None:
    """The count of steps too: a resumed ramp goes on where it was."""
    first = Teacher(at(small, 1.0), 0.9)
    for _ in range(num_before):
        first.update(at(small, 2.0))
    second = Teacher(at(small, -1.0), 0.9)
    second.load_state_dict(first.state_dict())
    for teacher in (first, second):
        teacher.update(at(small, 3.0))
    assert torch.equal(first.classifier.head.weight, second.classifier.head.weight)
    assert int(second.steps) == num_before + 1


def test_half_precision_student_logits_are_fp32_of_the_teacher(small: Any) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Teacher(small, 0.9)(torch.randn(5, 6)).dtype == torch.float32
