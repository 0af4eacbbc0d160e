"""SAFN (Xu et al. 2019): every feature norm grows step by step."""

import numpy as np
import pytest
import torch

from hf_wbc.adaptation.methods.afn import afn_loss


@pytest.mark.parametrize(("num", "d"), [(5, 3), (1, 4), (8, 1)])
@pytest.mark.parametrize("delta", [1.0, 0.3])
def test_loss_matches_paper_with_last_norm_constant(
    num: int, d: int, delta: float, assert_loss_is
) -> None:
    features = np.random.default_rng(0).normal(size=(num, d))
    last = np.sqrt((features**2).sum(1))

    def reference(f: np.ndarray) -> float:
        return float(np.mean((np.sqrt((f**2).sum(1)) - (last + delta)) ** 2))

    assert_loss_is(lambda f: afn_loss(f.norm(dim=1), delta), reference, features)


def test_loss_is_always_delta_squared() -> None:
    assert afn_loss(torch.rand(7) * 9, 0.5).item() == pytest.approx(0.25)


def test_step_lengthens_every_feature_equally() -> None:
    f = torch.randn(6, 4, requires_grad=True)
    afn_loss(f.norm(dim=1), 1.0).backward()
    assert f.grad is not None
    longer = (f - 0.3 * f.grad).norm(dim=1) - f.norm(dim=1)
    torch.testing.assert_close(longer, torch.full((6,), 0.3 * 2 / 6))


def test_zero_feature_has_finite_gradient() -> None:
    f = torch.zeros(2, 4, requires_grad=True)
    afn_loss(f.norm(dim=1), 1.0).backward()
    assert f.grad is not None and torch.isfinite(f.grad).all()


def test_method_lengthens_features_of_both_domains(make_method, small, make_batch) -> None:
    batch = make_batch(num_target=4)
    method = make_method("afn", small, weight=0.5, delta=2.0).eval()
    batch.target.inputs.requires_grad_()
    terms = method(batch)
    features = torch.cat([small(view.inputs).features for view in (batch.source, batch.target)])
    torch.testing.assert_close(terms["norm"], features.norm(dim=1).mean())
    torch.testing.assert_close(terms["loss"], terms["supervised"] + 0.5 * 4)
    (found,) = torch.autograd.grad(terms["loss"], batch.target.inputs)
    (wanted,) = torch.autograd.grad(-0.5 * 2 * 2 * features.norm(dim=1).mean(), batch.target.inputs)
    assert wanted.abs().max() > 1e-4
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1}, "weight is -1; it must not be negative"),
        ({"delta": 0}, "delta is 0; it must be positive"),
    ],
)
def test_options_out_of_range_are_refused(options, message, make_method, small) -> None:
    with pytest.raises(ValueError, match=message):
        make_method("afn", small, **options)
