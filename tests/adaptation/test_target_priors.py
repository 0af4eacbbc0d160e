"""Target class proportions tracked during training, and the weights derived from them."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import norm

from hf_wbc.adaptation import target_priors
from hf_wbc.adaptation.importance_weights import WeightOptions
from hf_wbc.adaptation.target_priors import PriorOptions, RunningPriors, em_steps

EVERY = torch.ones(4, dtype=torch.bool)


def blurred(num_classes: int, seed: int = 0) -> np.ndarray:
    """Return the mean predictions per class, which are right more often than not."""
    rng = np.random.default_rng(seed)
    return 0.6 * np.eye(num_classes) + 0.4 * rng.dirichlet(np.ones(num_classes), num_classes)


def many(pi: torch.Tensor, rows: np.ndarray, mu: np.ndarray, pull: float = 0.0) -> np.ndarray:
    towards = torch.full_like(pi, 1 / len(pi))
    return em_steps(pi, torch.from_numpy(rows), torch.from_numpy(mu), towards, pull, 3000).numpy()


@pytest.mark.parametrize("seed", range(3))
def test_em_inverts_confusion(seed: int) -> None:
    rows, true = blurred(5, seed), np.random.default_rng(seed + 9).dirichlet(np.ones(5))
    start = torch.full((5,), 0.2, dtype=torch.float64)
    np.testing.assert_allclose(many(start, rows, true @ rows), true, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_em_minimizes_divergence_without_an_inverse(seed: int) -> None:
    rows, mu = blurred(4, seed), np.array([0.9, 0.08, 0.015, 0.005])
    assert (mu @ np.linalg.inv(rows) < 0).any()
    found = minimize(
        lambda pi: -(mu * np.log(pi @ rows)).sum(), np.full(4, 0.25), bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda pi: pi.sum() - 1}, options={"ftol": 1e-14},
    )  # fmt: skip
    start = torch.full((4,), 0.25, dtype=torch.float64)
    np.testing.assert_allclose(many(start, rows, mu), found.x, atol=1e-4)


def test_uninformative_predictions_give_uniform_proportions() -> None:
    start = torch.tensor([0.7, 0.1, 0.1, 0.1], dtype=torch.float64)
    rows = np.full((4, 4), 0.25)
    np.testing.assert_allclose(many(start, rows, np.full(4, 0.25), pull=0.01), 0.25, atol=1e-6)


def test_certain_predictions_are_barely_pulled() -> None:
    start, mu = torch.full((4,), 0.25, dtype=torch.float64), np.array([0.7, 0.2, 0.09, 0.01])
    np.testing.assert_allclose(
        many(start, np.eye(4), mu, pull=0.01), 0.99 * mu + 0.01 / 4, atol=1e-9
    )


def test_running_means_decay_exponentially() -> None:
    rng, momentum = np.random.default_rng(0), 0.8
    priors = RunningPriors(EVERY, momentum, 0.01)
    batches = [
        (rng.normal(size=(6, 4)), rng.integers(4, size=6), rng.normal(size=(5, 4)))
        for _ in range(4)
    ]
    for z_s, labels, z_t in batches:
        priors.update(torch.tensor(z_s), torch.tensor(labels), torch.tensor(z_t))
    fade = momentum ** np.arange(3, -1, -1)
    first = momentum**4
    for label in range(4):
        expected = first * np.eye(4)[label]
        for weight, (z_s, labels, _) in zip(fade, batches, strict=True):
            expected = expected + weight * softmax(z_s[labels == label], axis=1).sum(0)
        np.testing.assert_allclose(priors.joint[label], expected, rtol=1e-5)
    expected = first + sum(
        weight * softmax(z_t, axis=1).sum(0)
        for weight, (_, _, z_t) in zip(fade, batches)  # noqa: B905
    )
    np.testing.assert_allclose(priors.predicted, expected, rtol=1e-5)


def posterior(x: np.ndarray) -> torch.Tensor:
    """Return logits (B, 4) of a classifier that knows the densities of four Gaussian classes."""
    return torch.from_numpy(norm.logpdf(x[:, None], loc=2 * np.arange(4)))


def followed(drawn: np.ndarray, true: np.ndarray, present: torch.Tensor = EVERY) -> RunningPriors:
    """Return the tracked proportions after 60 batches of a source and a target."""
    rng = np.random.default_rng(0)
    priors = RunningPriors(present, 0.95, 0.001)
    for _ in range(60):
        y_s, y_t = rng.choice(4, 256, p=drawn), rng.choice(4, 256, p=true)
        z_s, z_t = (posterior(2 * y + rng.normal(size=256)) for y in (y_s, y_t))
        priors.update(z_s, torch.from_numpy(y_s), z_t)
    return priors


TRUE = np.array([0.65, 0.05, 0.1, 0.2])


@pytest.mark.parametrize("drawn", [np.full(4, 0.25), np.array([0.1, 0.2, 0.3, 0.4])])
def test_simulated_proportions_are_recovered_for_any_source_sampling(drawn: np.ndarray) -> None:
    priors = followed(drawn, TRUE)
    np.testing.assert_allclose(priors.source, drawn, atol=0.02)
    np.testing.assert_allclose(priors.pi, TRUE, atol=0.02)
    raw = priors.predicted / priors.predicted.sum()
    assert np.abs(raw.numpy() - TRUE).max() > 0.05, "the mean prediction alone is not enough"


def test_class_missing_from_sources_never_gets_a_share() -> None:
    present = torch.tensor([True, True, False, True])
    priors = followed(np.array([0.4, 0.3, 0, 0.3]), np.array([0.6, 0.2, 0, 0.2]), present)
    assert priors.pi[2] == 0 and priors.source[2] == 0
    np.testing.assert_allclose(priors.pi, [0.6, 0.2, 0, 0.2], atol=0.03)
    assert torch.isfinite(priors.correct_for_priors(torch.randn(5, 4))).all()


def test_corrected_probabilities_match_bayes_with_target_proportions() -> None:
    priors = followed(np.full(4, 0.25), TRUE)
    x = np.linspace(-1, 7, 9)
    likelihood = norm.pdf(x[:, None], loc=2 * np.arange(4)) * priors.pi.numpy()
    likelihood /= priors.source.numpy()
    expected = likelihood / likelihood.sum(1, keepdims=True)
    np.testing.assert_allclose(
        priors.correct_for_priors(posterior(x)), expected, rtol=1e-4, atol=1e-7
    )


def test_weighted_samples_have_target_proportions() -> None:
    priors = followed(np.full(4, 0.25), TRUE)
    labels = torch.from_numpy(np.random.default_rng(1).integers(4, size=4000))
    w = priors.weights(labels, max_weight=10.0)
    assert w.mean().item() == pytest.approx(1, abs=0.05)
    shares = torch.zeros(4).index_add_(0, labels, w) / w.sum()
    np.testing.assert_allclose(shares, TRUE, atol=0.04)


@pytest.mark.parametrize("size", [4, 64])
@pytest.mark.slow
@pytest.mark.ci
def test_weighted_mean_over_small_batches_matches_target(size: int) -> None:
    """The proportions are tracked; rescaling to mean 1 in each batch would break this."""
    rng, drawn = np.random.default_rng(0), np.full(4, 0.25)
    value = np.array([1.0, 0.0, 0.0, 0.0])
    priors, found, scaled = RunningPriors(EVERY, 0.99, 0.0), [], []
    for step in range(12000 // size):
        y_s, y_t = rng.choice(4, size, p=drawn), rng.choice(4, size, p=TRUE)
        labels = torch.from_numpy(y_s)
        if step * size > 2000:
            w = priors.weights(labels, max_weight=10.0).numpy()
            found.append((w * value[y_s]).mean())
            scaled.append(np.average(value[y_s], weights=w))
        z_s, z_t = (posterior(2 * y + rng.normal(size=size)) for y in (y_s, y_t))
        priors.update(z_s, labels, z_t)
    assert np.mean(found) == pytest.approx(value @ TRUE, abs=0.04)
    if size == 4:
        assert np.mean(scaled) < value @ TRUE - 0.08


def test_weights_are_clipped() -> None:
    priors = RunningPriors(EVERY, 0.9, 0.01)
    priors.joint = torch.diag(torch.tensor([97.0, 1, 1, 1]))
    w = priors.weights(torch.arange(4), max_weight=2.0)
    torch.testing.assert_close(w[1:] / w[0], torch.full((3,), 2 / (0.25 / 0.97)))


def test_saved_state_continues_identically() -> None:
    one = followed(np.full(4, 0.25), TRUE)
    other = RunningPriors(EVERY, 0.95, 0.001)
    other.load_state_dict(one.state_dict())
    batch = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1]), torch.randn(5, 4)
    one.update(*batch)
    other.update(*batch)
    assert torch.equal(one.pi, other.pi)


def test_processes_share_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    z_s, labels, z_t = torch.randn(6, 4), torch.tensor([0, 1, 2, 2, 0, 1]), torch.randn(5, 4)
    alone = RunningPriors(EVERY, 0.95, 0.01)
    alone.update(z_s.repeat(2, 1), labels.repeat(2), z_t.repeat(2, 1))
    expected = alone.weights(labels, 5.0)
    monkeypatch.setattr(
        target_priors, "all_gather_batch", lambda values: torch.cat([values, values])
    )
    shared = RunningPriors(EVERY, 0.95, 0.01)
    shared.update(z_s, labels, z_t)
    torch.testing.assert_close(shared.pi, alone.pi)
    torch.testing.assert_close(shared.weights(labels, 5.0), expected)


def test_update_never_synchronizes_on_values() -> None:
    """Tensors on the meta device have no values to synchronize on."""
    priors = RunningPriors(EVERY, 0.95, 0.01).to("meta")
    labels = torch.zeros(6, dtype=torch.int64, device="meta")
    priors.update(torch.randn(6, 4, device="meta"), labels, torch.randn(5, 4, device="meta"))
    assert priors.weights(labels, 5.0).shape == (6,)
    assert priors.correct_for_priors(torch.randn(5, 4, device="meta")).shape == (5, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, r"momentum is 1.0; it must be in \[0, 1\)"),
        ({"pull": -0.1}, r"pull is -0.1; it must be in \[0, 1\)"),
        ({"max_weight": 0.5}, r"max_weight is 0.5; it must be at least 1"),
        ({"warm_up": 2}, r"warm_up is 2; it must be in \[0, 1\]"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WeightOptions(**options)
    assert issubclass(WeightOptions, PriorOptions)
