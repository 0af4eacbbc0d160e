"""Averaged weights match the mean defined in the paper, and resume bit-exactly."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import nn

from hf_wbc.engine.weight_averaging import EmaAverager, SwadAverager, make_weight_averager


class Tiny(nn.Module):
    """Two layers, the first frozen, with BatchNorm between them."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(2, 3).requires_grad_(False)
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 2)


def walk(num_steps, seed=0):
    """Return the states after each step of a random walk."""
    torch.manual_seed(seed)
    net, states = Tiny(), []
    for _ in range(num_steps):
        with torch.no_grad():
            for weight in (*net.norm.parameters(), *net.head.parameters()):
                weight.add_(torch.randn_like(weight))
        net.norm(torch.randn(8, 3))
        states.append(copy.deepcopy(net))
    return states


def run(averaged, states, losses, size, last=None):
    """Feed steps in windows of `size` (the last of `last`), each closed by its loss."""
    ends = [size * (i + 1) for i in range(len(losses))]
    if last:
        ends[-1] -= size - last
    start = 0
    for end, loss in zip(ends, losses, strict=True):
        for state in states[start:end]:
            averaged.update_parameters(state)
        averaged.after_evaluation(loss)
        start = end
    return ends


def chosen_windows(losses, ns, ne, r):
    """Apply the paper's Algorithm 1 to all losses at once; return the averaged windows."""
    for i in range(ns - 1, len(losses)):
        if losses[i - ns + 1] == min(losses[i - ns + 1 : i + 1]):
            start = i - ns + 1
            limit = max(r * np.mean(losses[start : i + 1]), losses[start])
            break
    else:
        return [len(losses) - 1]
    for j in range(i + 1, len(losses)):
        if min(losses[max(0, j - ne + 1) : j + 1]) > limit:
            return list(range(start, j - ne + 1))
    within = [k for k in range(start, len(losses)) if losses[k] <= limit]
    return list(range(start, within[-1] + 1))


def mean_of(states, windows, ends):
    """Return the float64 mean of every step's state in the windows."""
    starts = [0, *ends[:-1]]
    steps = [step for w in windows for step in range(starts[w], ends[w])]
    kept = [states[step].state_dict() for step in steps]
    return {
        name: torch.stack([state[name].double() for state in kept]).mean(0)
        if kept[0][name].is_floating_point()
        else kept[-1][name]
        for name in kept[0]
    }


def assert_is(module, expected):
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor.double(), expected[name].double(), rtol=1e-5, atol=1e-5)


STATES = walk(72)
TWICE_UP = [5, 4, 3, 2, 2.1, 2.2, 9, 2.3, 9, 9, 9, 2.2, 9, 9, 9, 9, 9, 9, 1, 1]


@pytest.mark.parametrize("num", range(1, len(TWICE_UP) + 1))
def test_swad_averages_every_step_in_the_valley(num):
    averaged = SwadAverager(STATES[0])
    ends = run(averaged, STATES, TWICE_UP[:num], size=3, last=2)
    windows = chosen_windows(TWICE_UP[:num], ns=3, ne=6, r=1.3)
    assert_is(averaged.module, mean_of(STATES, windows, ends))
    assert averaged.ended == (num >= 18)


@given(
    losses=st.lists(st.sampled_from([0.5, 1.0, 1.1, 1.4, 2.0, 3.0]), min_size=1, max_size=24),
    patiences=st.sampled_from([(1, 1), (1, 3), (2, 2), (2, 4), (3, 3), (3, 6)]),
    tolerance=st.sampled_from([1.0, 1.2, 1.3, 2.0]),
    size=st.integers(1, 3),
)
def test_swad_matches_algorithm_1_on_any_losses(losses, patiences, tolerance, size):
    averaged = SwadAverager(STATES[0], *patiences, tolerance)
    ends = run(averaged, STATES, losses, size)
    windows = chosen_windows(losses, *patiences, tolerance)
    assert_is(averaged.module, mean_of(STATES, windows, ends))


def test_swad_valley_of_equal_losses_is_not_lost_to_rounding():
    averaged = SwadAverager(STATES[0], 3, 3, 1.0)
    ends = run(averaged, STATES, [1.4, 1.4, 1.4], size=1)
    assert np.mean([1.4, 1.4, 1.4]) < 1.4
    assert_is(averaged.module, mean_of(STATES, [0, 1, 2], ends))


def test_swad_before_valley_is_mean_of_newest_window():
    averaged = SwadAverager(STATES[0])
    ends = run(averaged, STATES, [3, 2, 1], size=4)
    assert_is(averaged.module, mean_of(STATES, [2], ends))


def test_swad_before_first_evaluation_keeps_initial_weights():
    averaged = SwadAverager(STATES[5])
    averaged.update_parameters(STATES[6])
    assert_is(averaged.module, STATES[5].state_dict())


def test_swad_of_constant_loss_is_mean_of_all_steps():
    averaged = SwadAverager(STATES[0])
    ends = run(averaged, STATES, [1.0] * 20, size=3)
    assert_is(averaged.module, mean_of(STATES, range(20), ends))


def test_nan_loss_neither_starts_nor_extends_the_valley():
    averaged = SwadAverager(STATES[0])
    run(averaged, STATES, [float("nan")] * 4, size=1)
    assert_is(averaged.module, STATES[3].state_dict())
    averaged = SwadAverager(STATES[0])
    run(averaged, STATES, [1, 1, 1, *[float("nan")] * 6], size=1)
    assert averaged.ended
    assert_is(averaged.module, mean_of(STATES, [0, 1, 2], range(1, 10)))


def test_averaging_does_not_modify_the_classifier():
    before = {name: tensor.clone() for name, tensor in STATES[0].state_dict().items()}
    for averaged in (EmaAverager(STATES[0], 0.9), SwadAverager(STATES[0])):
        run(averaged, STATES, [1.0] * 5, size=2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in STATES[0].state_dict().items())


def test_swad_skips_frozen_weights_unless_all_are_frozen():
    averaged = SwadAverager(STATES[0])
    averaged.update_parameters(STATES[0])
    assert not [name for name in averaged.state_dict() if "frozen" in name]
    teacher = copy.deepcopy(STATES[0]).requires_grad_(False)
    averaged = SwadAverager(teacher)
    averaged.update_parameters(teacher)
    assert "0.frozen.weight" in averaged.state_dict()
    assert "0.head.weight" in averaged.state_dict()


@pytest.mark.parametrize(
    "make", [lambda net: EmaAverager(net, 0.9), SwadAverager], ids=["ema", "swad"]
)
@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 6, 8, 9, 17, 18, 19])
def test_averager_resumes_bit_exactly_after_kill(make, cut):
    whole, killed = make(STATES[0]), make(STATES[0])
    run(whole, STATES, TWICE_UP, size=3)
    run(killed, STATES, TWICE_UP[:cut], size=3)
    resumed = make(STATES[0])
    resumed.load_state_dict(load(save(killed.state_dict())))
    for name, tensor in killed.module.state_dict().items():
        assert torch.equal(tensor, resumed.module.state_dict()[name])
    run(resumed, STATES[3 * cut :], TWICE_UP[cut:], size=3)
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(tensor, resumed.module.state_dict()[name])


def test_swad_resumes_bit_exactly_within_a_window():
    whole, killed, resumed = (
        SwadAverager(STATES[0]),
        SwadAverager(STATES[0]),
        SwadAverager(STATES[0]),
    )
    run(whole, STATES, [1.0, 1.0], size=3)
    for state in STATES[:2]:
        killed.update_parameters(state)
    resumed.load_state_dict(load(save(killed.state_dict())))
    resumed.update_parameters(STATES[2])
    resumed.after_evaluation(1.0)
    run(resumed, STATES[3:], [1.0], size=3)
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(tensor, resumed.module.state_dict()[name])


def test_average_of_another_model_is_refused():
    averaged = SwadAverager(STATES[0])
    averaged.update_parameters(STATES[0])
    state = averaged.state_dict()
    del state["0.head.weight"]
    with pytest.raises(KeyError):
        SwadAverager(STATES[0]).load_state_dict(state)
    with pytest.raises(KeyError):
        SwadAverager(STATES[0]).load_state_dict({})


def test_ema_is_geometric_mean_with_growing_memory():
    averaged = EmaAverager(STATES[0], 0.3)
    run(averaged, STATES[:10], [1.0] * 10, size=1)
    expected = STATES[0].head.weight.double()
    for step, state in enumerate(STATES[:10]):
        decay = min(0.3, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * state.head.weight.double()
    torch.testing.assert_close(averaged.module.head.weight.double(), expected, rtol=1e-5, atol=1e-6)


def test_ema_of_short_run_is_mean_of_its_end():
    averaged = EmaAverager(STATES[0], 0.999)
    run(averaged, STATES, [1.0] * 72, size=1)
    mean = averaged.module.head.weight
    far, near = ((mean - STATES[step].head.weight).norm() for step in (0, -1))
    assert near < 0.5 * far


def test_make_weight_averager_follows_options():
    assert make_weight_averager(STATES[0]) is None
    assert isinstance(make_weight_averager(STATES[0], ema=0.9), EmaAverager)
    assert isinstance(make_weight_averager(STATES[0], swad=True), SwadAverager)
    assert SwadAverager.wants_loss and not EmaAverager.wants_loss


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((0, 6, 1.3), "optimum_patience is 0; it must be at least 1"),
        ((3, 2, 1.3), "overfit_patience is 2; it must be at least optimum_patience, 3"),
        ((3, 6, 0.9), "tolerance is 0.9; it must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SwadAverager(STATES[0], *options)
