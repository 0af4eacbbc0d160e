"""V-REx (Krueger et al. 2021): the variance of the source risks."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hf_wbc.adaptation import Method, load_method
from hf_wbc.adaptation.losses import ramp_up
from hf_wbc.adaptation.methods.vrex import vrex_penalty
from hf_wbc.data.batch import Batch


@pytest.mark.parametrize("domains", [(0, 1, 0, 1), (0, 1, 2, 2, 2, 1, 2), (0, 3, 3, 0, 1)])
def test_penalty_matches_numpy_variance_of_domain_means(
    domains: tuple[int, ...], assert_loss_is: Callable[..., None]
) -> None:
    def reference(losses: np.ndarray) -> float:
        found = [losses[np.array(domains) == e].mean() for e in sorted(set(domains))]
        return float(np.var(found))

    assert_loss_is(
        lambda losses: vrex_penalty(losses, torch.tensor(domains), 4),
        reference,
        np.random.default_rng(0).uniform(0, 3, len(domains)),
    )


def test_equal_risks_and_single_domain_cost_nothing() -> None:
    losses = torch.tensor([1.0, 3.0, 2.0, 2.0])
    assert vrex_penalty(losses, torch.tensor([0, 0, 1, 1]), 2) == 0
    assert vrex_penalty(losses, torch.zeros(4, dtype=torch.int64), 2) == 0


def test_method_adds_weighted_penalty_to_mean_loss(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("vrex", small, weight=7.0)
    batch = make_batch(domains=(0, 0, 0, 0, 1, 1))
    source = batch.source
    losses = torch.nn.functional.cross_entropy(
        small(source.inputs).logits, source.labels, reduction="none"
    ).detach()
    variance = np.var([losses[:4].mean().item(), losses[4:].mean().item()])
    for progress, weight in ((0.0, 1.0), (0.099, 1.0), (0.1, 7.0), (0.9, 7.0)):
        terms = method(replace(batch, progress=progress))
        expected = losses.mean().item() + weight * variance
        assert terms["loss"].item() == pytest.approx(expected, rel=1e-4)
        assert terms["variance"].item() == pytest.approx(variance, rel=1e-3)


def test_annealing_never_exceeds_final_weight() -> None:
    assert ramp_up(0.3, 0.1, 0.0) == 0.3
    assert ramp_up(30.0, 0.1, 0.05) == 1.0
    assert ramp_up(30.0, 0.0, 0.0) == 30.0


@pytest.mark.parametrize("name", ["vrex", "irm"])
@pytest.mark.parametrize(
    ("option", "message"),
    [({"weight": -1}, "weight is -1; it must not be negative"),
     ({"anneal": 2}, r"anneal is 2; it must be in \[0, 1\]")],
)  # fmt: skip
def test_option_out_of_range_is_refused(name: str, option: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_method(name).parse(option)
