"""Importance-weighted DAN: MMD with the source reweighted to the target proportions."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

LABELS = (0, 3, 8, 8, 8, 9)


def class_weights(method) -> np.ndarray:
    """Return class weights for the next batch: target over source proportions, source mean 1."""
    source = method.priors.source.double().numpy()
    ratio = np.minimum(method.priors.pi.double().numpy() / source, 10)
    return ratio / (source @ ratio)


def test_unit_weights_reduce_to_dan(make_method, small, make_batch) -> None:
    batch = make_batch(LABELS, progress=0.0)
    weighted = make_method("iw_dan", small, weight=3.0).eval()(batch)
    plain = make_method("dan", small, weight=3.0).eval()(batch)
    assert weighted == plain


def reference(f_s: np.ndarray, f_t: np.ndarray, w: np.ndarray) -> float:
    """Compute the weighted sums over all pairs of samples."""
    f, num = np.concatenate([f_s, f_t]), len(f_s)
    squared = cdist(f, f, "sqeuclidean")
    k = sum(np.exp(-squared / (2 * 2.0**b * squared.mean())) for b in range(-3, 2))

    def mean(rows, columns, v, u) -> float:
        pairs = [(i, j) for i in rows for j in columns if i != j]
        mass = [v[i] * u[j] for i, j in pairs]
        return float(np.average([k[pair] for pair in pairs], weights=mass))

    v = np.concatenate([w, np.ones(len(f_t))])
    s, t = range(num), range(num, len(f))
    return mean(s, s, v, v) + mean(t, t, v, v) - 2 * mean(s, t, v, v)


def test_loss_is_discrepancy_under_class_weights(make_method, small, make_batch):
    batch = make_batch(LABELS, progress=0.9)
    method = make_method("iw_dan", small).eval()
    batch.target.inputs.requires_grad_()
    method(batch)
    w = class_weights(method)[list(LABELS)]
    assert w.std() > 0.1
    terms = method(batch)
    f_s, f_t = (small(view.inputs).features.detach() for view in (batch.source, batch.target))
    expected = reference(f_s.numpy(), f_t.numpy(), w)
    assert terms["mmd"].item() == pytest.approx(expected, rel=1e-4)
    assert abs(expected - reference(f_s.numpy(), f_t.numpy(), np.ones(6))) > 1e-3
    (gradient,) = torch.autograd.grad(terms["loss"], batch.target.inputs)
    assert gradient.abs().sum() > 0


def test_options_of_both_parents_are_checked(make_method, small) -> None:
    with pytest.raises(ValueError, match="weight is -1; it must not be negative"):
        make_method("iw_dan", small, weight=-1)
    with pytest.raises(ValueError, match=r"momentum is 1; it must be in \[0, 1\)"):
        make_method("iw_dan", small, momentum=1)
