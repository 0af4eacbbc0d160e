"""The robustness index matches the package croma, and each measure detects what it should."""

import numpy as np
import pytest

from hf_wbc.audit.representation import (
    BIASES,
    average_performance_drop,
    probe_accuracies,
    representation_scores,
    robustness_index,
)


def embedding(
    class_weight: float, place_weight: float, num: int = 240, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw features (num, 12) of three classes from two laboratories."""
    rng = np.random.default_rng(seed)
    labels, places = np.arange(num) % 3, rng.integers(0, 2, num)
    centers, shifts = rng.normal(size=(3, 12)), rng.normal(size=(2, 12))
    noise = rng.normal(size=(num, 12))
    return class_weight * centers[labels] + place_weight * shifts[places] + noise, labels, places


@pytest.mark.parametrize("weights", [(2.0, 0.3), (0.6, 0.6), (0.3, 2.0)])
@pytest.mark.parametrize("num_groups", [240, 30])
def test_robustness_index_matches_croma(weights: tuple[float, float], num_groups: int) -> None:
    croma = pytest.importorskip("croma", reason="croma is in the extra `test`")
    import pandas as pd

    features, labels, places = embedding(*weights)
    groups = [f"{place}-{i % num_groups}" for i, place in enumerate(places)]
    manifest = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(240)],
            "image_path": [f"s{i}.png" for i in range(240)],
            "label": labels.astype(str),
            "center": places.astype(str),
            "slide_id": groups,
            "group_id": groups,
            "dataset": "d",
        }
    )
    expected = croma.RI.compute(
        features, manifest, confounder_column="center", k_candidates=[5, 11, 21]
    )
    found = robustness_index(features, labels, places, groups)
    assert found.k == expected.k
    assert found.value == pytest.approx(expected.value, abs=1e-6)
    assert found.support == pytest.approx(expected.support, abs=1e-6)


def test_performance_drop_matches_croma() -> None:
    croma = pytest.importorskip("croma", reason="croma is in the extra `test`")
    accuracies = np.random.default_rng(0).uniform(0.3, 1, (4, 5))
    assert average_performance_drop(accuracies) == pytest.approx(croma.apd(accuracies), abs=1e-6)


@pytest.mark.slow
@pytest.mark.ci
def test_every_measure_detects_laboratory_in_embedding() -> None:
    pure, mixed = (representation_scores(*embedding(2.0, weight)) for weight in (0.0, 4.0))
    assert pure is not None and mixed is not None
    assert pure.index.value > 0.9 > mixed.index.value
    assert pure.laboratory_accuracy == pytest.approx(0.5, abs=0.12)
    assert mixed.laboratory_accuracy > 0.95 and mixed.laboratory_chance == 0.5
    assert pure.performance_drop > -0.1 > mixed.performance_drop


@pytest.mark.slow
@pytest.mark.ci
def test_probes_are_tested_on_same_cells_at_every_bias() -> None:
    features, labels, places = embedding(3.0, 0.0)
    accuracies = probe_accuracies(features, labels, places, (0, 1), repetitions=2)
    assert accuracies is not None and accuracies.shape == (len(BIASES), 2)
    assert accuracies.min() > 0.85


def test_too_few_cells_have_no_scores() -> None:
    features, labels, places = embedding(1.0, 1.0)
    assert representation_scores(features, labels, np.zeros_like(places)) is None
    assert representation_scores(features, np.full_like(labels, -1), places) is None
    apart = representation_scores(features, labels, np.minimum(labels, 1))
    assert apart is None, "no class occurs in both laboratories"
    few = representation_scores(features[:20], labels[:20], places[:20])
    assert few is not None and few.performance_drop is None
    with pytest.raises(ValueError, match="5 cells are too few for 5"):
        robustness_index(features[:5], labels[:5], places[:5], list("abcde"), [5])
