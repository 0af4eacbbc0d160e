"""Scores of a domain: the bootstrap resamples patients where they are known."""

from dataclasses import replace

import numpy as np
import pytest

from hf_wbc.data.dataset import DomainSplit, load_split
from hf_wbc.engine.forward import Predictions
from hf_wbc.engine.scores import prediction_rows, score_predictions
from hf_wbc.evaluation.bootstrap import bootstrap_intervals
from hf_wbc.taxonomy import NUM_CLASSES


@pytest.fixture
def domain(laboratories: tuple[str, str]) -> DomainSplit:
    return load_split(laboratories[0], "test")


def test_bootstrap_resamples_known_groups(domain: DomainSplit) -> None:
    groups = np.array([f"patient_{i // 3}" for i in range(len(domain))])
    predicted = np.where(np.arange(len(domain)) % 5, domain.labels, 0)
    found = score_predictions([replace(domain, groups=groups)], predicted, (), (), seed=0)
    assert found is not None
    assert found["intervals"] == bootstrap_intervals(
        domain.labels, predicted, groups=groups, seed=0
    )
    assert found["intervals"] != bootstrap_intervals(domain.labels, predicted, seed=0)


@pytest.mark.parametrize("group", [None, "one"])
def test_unknown_or_single_group_is_ignored(domain: DomainSplit, group: str | None) -> None:
    groups = None if group is None else np.full(len(domain), group)
    found = score_predictions([replace(domain, groups=groups)], domain.labels, (), (), seed=0)
    assert found is not None
    assert found["intervals"] == bootstrap_intervals(domain.labels, domain.labels, seed=0)


@pytest.mark.parametrize("known", [False, True])
def test_prediction_rows_contain_group(domain: DomainSplit, known: bool) -> None:
    groups = np.array([f"patient_{i}" for i in range(len(domain))]) if known else None
    logits = np.eye(NUM_CLASSES, dtype=np.float32)[domain.labels]
    table = prediction_rows(
        replace(domain, groups=groups), Predictions(logits, np.zeros((len(domain), 2), np.float32))
    )
    assert table["group"].to_pylist() == ([None] * len(domain) if groups is None else [*groups])
