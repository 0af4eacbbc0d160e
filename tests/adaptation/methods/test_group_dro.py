"""GroupDRO (Sagawa et al. 2020): the worst source domain gets the largest weight."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from hf_wbc.adaptation import Method, load_method
from hf_wbc.adaptation.losses import domain_means
from hf_wbc.adaptation.methods.group_dro import update_domain_weights
from hf_wbc.data.batch import Batch

LABELS = (0, 3, 8, 9, 10, 8)


def losses_of(small: Any, batch: Batch) -> np.ndarray:
    z = small(batch.source.inputs).logits.detach().double().numpy()
    return -log_softmax(z, axis=1)[np.arange(len(z)), batch.source.labels.numpy()]


@pytest.mark.parametrize("eta", [0.01, 1.0])
@pytest.mark.parametrize("domains", [(0, 1, 0, 1, 1, 1), (2, 2, 2, 0, 1, 2)])
def test_loss_and_gradient_match_paper(
    eta: float, domains: tuple[int, ...], assert_loss_is: Callable[..., None]
) -> None:
    number = max(domains) + 1
    start = np.random.default_rng(0).dirichlet(np.ones(number))
    values = np.random.default_rng(1).uniform(0, 3, 6)

    def means(losses: np.ndarray) -> np.ndarray:
        return np.array([losses[np.array(domains) == e].mean() for e in range(number)])

    q = start * np.exp(eta * means(values))
    q /= q.sum()  # a constant: no gradient flows through the weights

    def loss(losses: torch.Tensor) -> torch.Tensor:
        found, _ = domain_means(losses, torch.tensor(domains), number)
        return update_domain_weights(torch.from_numpy(start), found, eta) @ found

    assert_loss_is(loss, lambda losses: float(q @ means(losses)), values)


def test_method_remembers_domain_weights(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("group_dro", small, eta=0.5)
    q = np.full(2, 0.5)
    for seed in (0, 1):
        batch = make_batch(LABELS, seed=seed, domains=(0, 0, 1, 1, 1, 1))
        losses = losses_of(small, batch)
        means = np.array([losses[:2].mean(), losses[2:].mean()])
        q = q * np.exp(0.5 * means)
        q /= q.sum()
        terms = method(batch)
        assert terms["loss"].item() == pytest.approx(q @ means, rel=1e-5)
        assert terms["worst"].item() == pytest.approx(means.max(), rel=1e-5)
        np.testing.assert_allclose(method.state_dict()["q"].numpy(), q, rtol=1e-5)


def test_worst_domain_gains_weight() -> None:
    q = update_domain_weights(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 2.0]), 0.1)
    assert q[1] > q[0]
    assert q.sum().item() == pytest.approx(1)


def test_absent_domain_keeps_its_weight_ratio() -> None:
    means, counts = domain_means(torch.tensor([0.0, 0.0]), torch.tensor([0, 0]), 2)
    assert counts.tolist() == [2, 0]
    torch.testing.assert_close(
        update_domain_weights(torch.tensor([0.3, 0.7]), means, 1.0).tolist(), [0.3, 0.7]
    )


def test_equal_losses_give_the_plain_loss(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    """Without weight updates, the loss is the mean of the domain means."""
    batch = make_batch(LABELS, domains=(0, 1, 0, 1, 0, 1))
    expected = losses_of(small, batch).mean()
    assert make_method("group_dro", small, eta=0.0)(batch)["loss"].item() == pytest.approx(expected)


def test_negative_step_size_is_refused() -> None:
    with pytest.raises(ValueError, match="eta is -1; it must not be negative"):
        load_method("group_dro").parse({"eta": -1})
