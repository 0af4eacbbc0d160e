"""IWDAN, importance-weighted DANN: the source reweighted to the target proportions."""

import numpy as np
import pytest
import torch

from hf_wbc.adaptation.methods.dann import domain_adversarial_loss
from hf_wbc.adaptation.target_priors import RunningPriors

LABELS = (0, 3, 8, 8, 8, 9)


def class_weights(method) -> np.ndarray:
    """Return class weights for the next batch: target over source proportions, source mean 1."""
    source = method.priors.source.double().numpy()
    ratio = np.minimum(method.priors.pi.double().numpy() / source, 10)
    return ratio / (source @ ratio)


def test_unit_weights_reduce_to_dann(make_method, small, make_batch) -> None:
    batch = make_batch(LABELS, progress=0.0)
    weighted = make_method("iw_dann", small, weight=3.0).eval()(batch)
    plain = make_method("dann", small, weight=3.0).eval()(batch)
    assert weighted == plain


def test_source_samples_are_weighted_by_class(make_method, small, make_batch) -> None:
    batch = make_batch(LABELS, progress=0.9)
    method = make_method("iw_dann", small, width=8).eval()
    method(batch)
    w = class_weights(method)[list(LABELS)]
    assert w.std() > 0.1
    terms = method(batch)
    with torch.no_grad():
        z_s, z_t = (
            method.discriminator(small(view.inputs).features).double().numpy()
            for view in (batch.source, batch.target)
        )
    expected = (w * np.log1p(np.exp(-z_s))).mean() + np.log1p(np.exp(z_t)).mean()
    assert terms["domain"].item() == pytest.approx(expected / 2, rel=1e-5)


def test_mean_loss_matches_source_with_target_proportions() -> None:
    """Dividing by each batch's own mean weight would bias it toward the unweighted source."""
    rng = np.random.default_rng(0)
    drawn, true = np.array([0.6, 0.3, 0.1]), np.array([0.1, 0.2, 0.7])
    priors = RunningPriors(torch.ones(3, dtype=torch.bool), 0.95, 0.0)
    priors.joint, priors.pi = torch.diag(torch.tensor(drawn)), torch.tensor(true)
    z = np.array([-1.0, 0.5, 2.0])
    labels = rng.choice(3, (20000, 4), p=drawn)
    w = priors.weights(torch.from_numpy(labels.ravel()), 10.0).numpy().reshape(labels.shape)
    z_t = torch.zeros(1)
    found = [
        2 * domain_adversarial_loss(torch.tensor(z[y]), z_t, torch.tensor(v)).item() - np.log(2)
        for y, v in zip(labels, w, strict=True)
    ]
    of_class = np.log1p(np.exp(-z))
    error = np.std(found) / len(found) ** 0.5
    assert np.mean(found) == pytest.approx(true @ of_class, abs=4 * error)
    scaled = (w / w.mean(1, keepdims=True) * of_class[labels]).mean()
    assert abs(scaled - true @ of_class) > 20 * error


def test_gradients_are_reversed_before_discriminator(make_method, small, make_batch) -> None:
    """Both follow the same loss: the discriminator descends, the features ascend."""
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


def test_options_of_both_parents_are_checked(make_method, small) -> None:
    with pytest.raises(ValueError, match="gamma is 0; it must be positive"):
        make_method("iw_dann", small, gamma=0)
    with pytest.raises(ValueError, match=r"pull is 1; it must be in \[0, 1\)"):
        make_method("iw_dann", small, pull=1)
