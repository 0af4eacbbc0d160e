"""EATA (Niu et al. 2022): entropy of reliable, non-redundant samples."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy

from hf_wbc.adaptation import Method, load_method
from hf_wbc.adaptation.losses import entropy
from hf_wbc.adaptation.methods.eata import eata_weights
from hf_wbc.data.batch import Batch, TargetBatch
from hf_wbc.taxonomy import NUM_CLASSES

LIMIT = 0.4 * math.log(NUM_CLASSES)


def reference_weights(z: np.ndarray, mean: np.ndarray, margin: float) -> np.ndarray:
    p = softmax(z, axis=1)
    found = []
    for row in p:
        h = scipy_entropy(row)
        similar = 1 - cosine(row, mean) if mean.any() else 0.0
        found.append(math.exp(LIMIT - h) if h < LIMIT and abs(similar) < margin else 0.0)
    return np.array(found)


@pytest.mark.parametrize("margin", [0.2, 0.6])
@pytest.mark.parametrize("number", [1, 12])
def test_weighted_entropy_and_gradient_match_paper(
    margin: float, number: int, assert_loss_is: Callable[..., None]
) -> None:
    rng = np.random.default_rng(number)
    z = 4 * rng.normal(size=(number, NUM_CLASSES))
    mean = rng.dirichlet(np.ones(NUM_CLASSES))
    weights = reference_weights(z, mean, margin)  # a constant: no gradient in the paper
    if number > 1:
        assert 0 < (weights > 0).sum() < number
    assert_loss_is(
        lambda z: (eata_weights(z, torch.from_numpy(mean), LIMIT, margin) * entropy(z)).sum(),
        lambda z: float((weights * scipy_entropy(softmax(z, axis=1), axis=1)).sum()),
        z,
    )


def test_uniform_predictions_have_zero_weight() -> None:
    assert eata_weights(torch.zeros(3, 11), torch.zeros(11), LIMIT, 0.4).sum() == 0


def test_predictions_similar_to_mean_have_zero_weight() -> None:
    sure = 20 * torch.eye(NUM_CLASSES)[[0, 1]]
    weights = eata_weights(sure, torch.eye(NUM_CLASSES)[0], LIMIT, 0.4)
    assert weights[0] == 0
    assert weights[1].item() == pytest.approx(math.exp(LIMIT), rel=1e-4)


def test_nothing_is_redundant_before_first_batch() -> None:
    sure = 20 * torch.eye(NUM_CLASSES)
    assert (eata_weights(sure, torch.zeros(NUM_CLASSES), LIMIT, 0.4) > 0).all()


@pytest.fixture
def sharp(small: Any) -> Any:
    """Return the small network with predictions confident enough to pass the threshold."""
    with torch.no_grad():
        small.head.weight.mul_(8)
    return small


def test_method_averages_over_selected_samples(
    sharp: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("eata", sharp)
    method.start_adapting()
    mean = None
    for seed in (0, 1, 2):
        target = make_batch((8,) * 16, seed=seed).target
        assert target is not None
        logits = sharp.train()(target.inputs).logits.detach().double().numpy()
        weights = reference_weights(logits, np.zeros(11) if mean is None else mean, 0.4)
        counted = weights > 0
        terms = method(TargetBatch(target=target))
        h = scipy_entropy(softmax(logits, axis=1), axis=1)
        expected = (weights * h).sum() / max(counted.sum(), 1)
        assert terms["loss"].item() == pytest.approx(expected, rel=1e-3)
        assert terms["counted"].item() == pytest.approx(counted.mean())
        if counted.any():
            new = softmax(logits, axis=1)[counted].mean(0)
            mean = new if mean is None else 0.9 * mean + 0.1 * new
        assert mean is not None
        np.testing.assert_allclose(method.state_dict()["mean"].numpy(), mean, atol=1e-5)


def test_loss_and_gradient_are_zero_without_selected_samples(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("eata", small, threshold=1e-6)
    method.start_adapting()
    target = make_batch().target
    assert target is not None
    loss = method(TargetBatch(target=target))["loss"]
    loss.backward()
    assert loss.item() == 0
    assert small.norm.weight.grad.abs().max() == 0
    assert method.state_dict()["mean"].abs().max() == 0


@pytest.mark.parametrize(
    ("option", "message"),
    [({"threshold": 0}, "threshold is 0"), ({"margin": 2}, "margin is 2"),
     ({"momentum": 1}, "momentum is 1")],
)  # fmt: skip
def test_option_out_of_range_is_refused(option: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_method("eata").parse(option)
