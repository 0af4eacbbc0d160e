"""Gradient reversal: identity forward, sign flip backward, with a strength that grows."""

import numpy as np
import pytest
import torch

from hf_wbc.adaptation.losses import reversal_strength, reverse_gradient


def test_values_pass_unchanged() -> None:
    values = torch.randn(3, 4)
    assert torch.equal(reverse_gradient(values, 0.7), values)


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_gradient_is_scaled_by_minus_strength(strength: float) -> None:
    values = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    (plain,) = torch.autograd.grad(values.pow(3).sum(), values)
    (turned,) = torch.autograd.grad(reverse_gradient(values, strength).pow(3).sum(), values)
    torch.testing.assert_close(turned, -strength * plain)


@pytest.mark.parametrize("gamma", [1.0, 10.0])
def test_strength_matches_paper(gamma: float) -> None:
    for progress in (0.0, 0.1, 0.5, 0.999):
        expected = 2 / (1 + np.exp(-gamma * progress)) - 1
        assert reversal_strength(progress, gamma) == pytest.approx(expected, abs=1e-12)


def test_strength_is_finite_for_any_gamma() -> None:
    assert reversal_strength(0.9, 1e6) == 1.0
