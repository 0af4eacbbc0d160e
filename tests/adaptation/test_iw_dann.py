"""IWDAN: DANN against a source that has the target's proportions."""

import numpy as np
import pytest
import torch

LABELS = (0, 3, 8, 8, 8, 9)


def test_weights_of_one_are_dann(make_method, small, make_batch) -> None:
    batch = make_batch(LABELS, progress=0.0)
    weighted = make_method("iw_dann", small, weight=3.0).eval()(batch)
    plain = make_method("dann", small, weight=3.0).eval()(batch)
    assert weighted == plain


def test_the_source_counts_by_the_weights_of_the_classes(make_method, small, make_batch) -> None:
    batch = make_batch(LABELS, progress=0.9)
    method = make_method("iw_dann", small, width=8).eval()
    terms = method(batch)
    w = (method.priors.pi / method.priors.source).numpy()[list(LABELS)]
    assert w.std() > 0.1
    with torch.no_grad():
        z_s, z_t = (
            method.discriminator(small(view.inputs).features).double().numpy()
            for view in (batch.source, batch.target)
        )
    expected = np.average(np.log1p(np.exp(-z_s)), weights=w) + np.log1p(np.exp(z_t)).mean()
    assert terms["domain"].item() == pytest.approx(expected / 2, rel=1e-5)


def test_gradients_are_reversed_before_the_discriminator(make_method, small, make_batch) -> None:
    """Both walk along the same loss; the discriminator down, the features up."""
    batch = make_batch(LABELS, progress=0.9)
    method = make_method("iw_dann", small, width=8, weight=100.0).eval()
    state = {name: value.clone() for name, value in method.state_dict().items()}
    before = method(batch)
    grad = torch.autograd.grad(before["loss"] - before["loss"].detach(), [
        method.discriminator.layers[4].weight, small.project.weight
    ])  # fmt: skip
    for parameter, gradient, sign in zip(
        (method.discriminator.layers[4].weight, small.project.weight), grad, (-1, 1), strict=True
    ):
        method.load_state_dict(state)
        with torch.no_grad():
            parameter -= 1e-4 * gradient
            moved = method(batch)["domain"] - before["domain"]
        assert moved.sign().item() == sign


def test_the_options_of_both_are_checked(make_method, small) -> None:
    with pytest.raises(ValueError, match="gamma is 0; it must be positive"):
        make_method("iw_dann", small, gamma=0)
    with pytest.raises(ValueError, match=r"pull is 1; it must be in \[0, 1\)"):
        make_method("iw_dann", small, pull=1)
