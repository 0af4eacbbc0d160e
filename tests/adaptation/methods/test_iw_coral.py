"""Importance-weighted CORAL: CORAL with the source reweighted to the target proportions."""

import numpy as np
import pytest
import torch

LABELS = (0, 3, 8, 8, 8, 9)


def class_weights(method) -> np.ndarray:
    """Return class weights for the next batch: target over source proportions, source mean 1."""
    source = method.priors.source.double().numpy()
    ratio = np.minimum(method.priors.pi.double().numpy() / source, 10)
    return ratio / (source @ ratio)


def test_unit_weights_reduce_to_coral(make_method, small, make_batch) -> None:
    batch = make_batch(LABELS, progress=0.0)
    weighted = make_method("iw_coral", small, weight=3.0).eval()(batch)
    plain = make_method("coral", small, weight=3.0).eval()(batch)
    assert weighted == plain


def test_loss_is_distance_under_class_weights(make_method, small, make_batch):
    batch = make_batch(LABELS, progress=0.9)
    method = make_method("iw_coral", small).eval()
    batch.target.inputs.requires_grad_()
    method(batch)
    w = class_weights(method)[list(LABELS)]
    assert w.std() > 0.1
    terms = method(batch)
    f_s, f_t = (small(view.inputs).features.detach() for view in (batch.source, batch.target))
    between = np.cov(f_s.T, aweights=w) - np.cov(f_t.T)
    assert terms["coral"].item() == pytest.approx((between**2).sum() / (4 * 4**2), rel=1e-4)
    (gradient,) = torch.autograd.grad(terms["loss"], batch.target.inputs)
    assert gradient.abs().sum() > 0


def test_weights_warm_up_linearly(make_method, small, make_batch) -> None:
    found = []
    for progress in (0.0, 0.05, 0.1, 0.2, 0.9):
        method, batch = make_method("iw_coral", small).eval(), make_batch(LABELS, progress=progress)
        method(batch)
        mean = (class_weights(method)[list(LABELS)] - 1).mean()
        found.append(method.weights(*method.forward_source_target(batch), batch) - 1)
    assert not found[0].any() and found[4].abs().max() > 0.1
    torch.testing.assert_close(found[3], found[4])
    torch.testing.assert_close(4 * found[1], found[4])
    torch.testing.assert_close(2 * found[2], found[4])
    assert found[4].mean().item() == pytest.approx(mean, rel=1e-4)


def test_options_of_both_parents_are_checked(make_method, small) -> None:
    with pytest.raises(ValueError, match="weight is -1; it must not be negative"):
        make_method("iw_coral", small, weight=-1)
    with pytest.raises(ValueError, match="max_weight is 0; it must be at least 1"):
        make_method("iw_coral", small, max_weight=0)
