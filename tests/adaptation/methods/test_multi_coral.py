"""CORAL between every pair of sources (Sun & Saenko 2016, DomainBed)."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch

from hf_wbc.adaptation import Method, load_method
from hf_wbc.adaptation.methods.multi_coral import multi_coral_loss
from hf_wbc.data.batch import Batch


def reference(features: np.ndarray, domains: np.ndarray) -> float:
    held = [features[domains == e] for e in sorted(set(domains))]
    covariances = [np.cov(f, rowvar=False) for f in held if len(f) > 1]
    d = features.shape[1]
    found = [np.linalg.norm(a - b) ** 2 / (4 * d**2) for a, b in combinations(covariances, 2)]
    return float(np.mean(found)) if found else 0.0


@pytest.mark.parametrize("width", [2, 7])
@pytest.mark.parametrize(
    "domains", [(0, 0, 1, 1), (0, 1, 2, 0, 1, 2, 1), (0, 0, 3, 3, 3, 1), (2, 2, 2), (0, 1)]
)
def test_distance_and_gradient_match_paper(
    width: int, domains: tuple[int, ...], assert_loss_is: Callable[..., None]
) -> None:
    whose = np.array(domains)
    assert_loss_is(
        lambda f: multi_coral_loss(f, torch.from_numpy(whose), 4),
        lambda f: reference(f, whose),
        np.random.default_rng(0).normal(size=(len(domains), width)),
    )


def test_distance_is_zero_for_equal_covariances() -> None:
    features = torch.randn(8, 5, dtype=torch.float64)
    both = torch.cat([features, features + 3])
    assert multi_coral_loss(both, torch.arange(16) // 8, 2).abs() < 1e-12


def test_distance_of_doubled_features_is_nine_squared_norms() -> None:
    features = torch.randn(8, 5, dtype=torch.float64)
    both = torch.cat([features, 2 * features])
    expected = 9 * torch.cov(features.T).square().sum() / (4 * 5**2)
    torch.testing.assert_close(multi_coral_loss(both, torch.arange(16) // 8, 2), expected)


def test_single_precision_suffices_for_wide_distant_features() -> None:
    features = (torch.rand(64, 1280, dtype=torch.float64) + 5).requires_grad_()
    domains = torch.arange(64) % 3
    exact = multi_coral_loss(features, domains, 3)
    single = multi_coral_loss(features.float(), domains, 3)
    assert single.item() == pytest.approx(exact.item(), rel=1e-3)


def test_method_adds_weighted_distance_and_moves_features(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    batch = make_batch(domains=(0, 0, 0, 1, 1, 1))
    output = small(batch.source.inputs)
    features = output.features.detach().double().numpy()
    distance = reference(features, batch.source.domains.numpy())
    plain = torch.nn.functional.cross_entropy(output.logits, batch.source.labels).item()
    terms = make_method("multi_coral", small, weight=3.0)(batch)
    assert terms["coral"].item() == pytest.approx(distance, rel=1e-3)
    assert terms["loss"].item() == pytest.approx(plain + 3 * distance, rel=1e-4)
    terms["coral"].backward()
    assert small.project.weight.grad.abs().max() > 0


def test_distance_keeps_precision_under_autocast(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    batch = make_batch(domains=(0, 0, 0, 1, 1, 1))
    method = make_method("multi_coral", small)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = method(batch)["coral"]
        features = small(batch.source.inputs).features
    expected = reference(features.detach().double().numpy(), batch.source.domains.numpy())
    assert found.item() == pytest.approx(expected, rel=1e-4)


def test_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="weight is -1; it must not be negative"):
        load_method("multi_coral").parse({"weight": -1})
