"""Deep CORAL (Sun & Saenko 2016): the distance between two covariance matrices."""

import numpy as np
import pytest
import torch

from hf_wbc.adaptation.methods.coral import coral_loss, covariance

SHAPES = [(5, 7, 3), (2, 4, 6), (12, 12, 1)]


def reference(f_s: np.ndarray, f_t: np.ndarray, w_s: np.ndarray | None = None) -> float:
    d = f_s.shape[1]
    c_s = np.atleast_2d(np.cov(f_s, rowvar=False, aweights=w_s))
    c_t = np.atleast_2d(np.cov(f_t, rowvar=False))
    return float(np.linalg.norm(c_s - c_t, "fro") ** 2 / (4 * d**2))


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize(("num_s", "num_t", "d"), SHAPES)
def test_loss_and_gradient_match_paper(num_s: int, num_t: int, d: int, assert_loss_is) -> None:
    assert_loss_is(coral_loss, reference, draw(num_s, d), 2 * draw(num_t, d, seed=1))


def test_weights_give_weighted_covariance(assert_loss_is) -> None:
    w = np.random.default_rng(2).uniform(0.2, 2, size=8)
    assert_loss_is(
        lambda f_s, f_t: coral_loss(f_s, f_t, torch.from_numpy(w)),
        lambda f_s, f_t: reference(f_s, f_t, w),
        draw(8, 3), draw(6, 3, seed=1),
    )  # fmt: skip


def test_unit_weights_change_nothing() -> None:
    f_s, f_t = torch.randn(5, 4), torch.randn(6, 4)
    assert torch.equal(coral_loss(f_s, f_t, torch.ones(5)), coral_loss(f_s, f_t))


def test_zero_weight_samples_are_ignored() -> None:
    f_s, f_t = torch.from_numpy(draw(6, 3)), torch.from_numpy(draw(5, 3, seed=1))
    w = torch.tensor([2.0, 0, 2, 0, 2, 0], dtype=torch.float64)
    torch.testing.assert_close(coral_loss(f_s, f_t, w), coral_loss(f_s[::2], f_t))


def test_equal_covariances_have_zero_distance_for_any_means() -> None:
    f = torch.from_numpy(draw(9, 4))
    assert coral_loss(f, f + 5).item() == pytest.approx(0, abs=1e-20)


def test_distance_of_doubled_features_is_nine_squared_norms() -> None:
    f = torch.from_numpy(draw(9, 4))
    expected = 9 * torch.cov(f.T).pow(2).sum() / (4 * 4**2)
    torch.testing.assert_close(coral_loss(f, 2 * f), expected)


def test_single_sample_has_zero_covariance() -> None:
    f = torch.randn(1, 4, requires_grad=True)
    assert torch.equal(covariance(f), torch.zeros(4, 4))
    coral_loss(f, torch.randn(3, 4)).backward()
    assert f.grad is not None and torch.isfinite(f.grad).all()


def test_batch_with_all_zero_weights_is_finite() -> None:
    assert torch.isfinite(coral_loss(torch.randn(5, 4), torch.randn(6, 4), torch.zeros(5)))


def test_autocast_does_not_lower_precision() -> None:
    f_s, f_t = torch.randn(32, 8), torch.randn(32, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = coral_loss(f_s, f_t)
    assert torch.equal(lowered, coral_loss(f_s, f_t))


def test_method_adds_loss_and_moves_features(make_method, small, make_batch) -> None:
    method, batch = make_method("coral", small, weight=3.0).eval(), make_batch()
    batch.target.inputs.requires_grad_()
    terms = method(batch)
    expected = coral_loss(small(batch.source.inputs).features, small(batch.target.inputs).features)
    assert expected.item() > 1e-6
    torch.testing.assert_close(terms["coral"], expected)
    torch.testing.assert_close(terms["loss"], terms["supervised"] + 3 * expected)
    (found,) = torch.autograd.grad(terms["loss"], batch.target.inputs)
    (wanted,) = torch.autograd.grad(3 * expected, batch.target.inputs)
    torch.testing.assert_close(found, wanted)


def test_negative_weight_is_refused(make_method, small) -> None:
    with pytest.raises(ValueError, match=r"weight is -1; it must not be negative"):
        make_method("coral", small, weight=-1)
