"""Examiner agreement matches scikit-learn, on the images that both examiners labeled."""

import json
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, f1_score

from hf_wbc.comparison.reference_scores import noise_ceiling
from hf_wbc.preparation.annotations import MISSING, OUTSIDE, AnnotationTable
from hf_wbc.taxonomy import NAMES, class_id


def annotated(ratings: Any, **more: Any) -> AnnotationTable:
    array = np.array(ratings, dtype=np.int64).reshape(-1, 3)
    ids = tuple(f"{row}.tiff" for row in range(len(array)))
    return AnnotationTable(ids, array, more.get("unknown", {}), more.get("bad_lines", ()))


@pytest.fixture
def looks() -> AnnotationTable:
    """Return 300 images of five classes; a third is labeled twice, 20 % of it differently."""
    rng = np.random.default_rng(3)
    first = rng.choice([0, 2, 3, 8, 10], 300)
    again = np.where(rng.random((2, 300)) < 0.2, rng.choice([0, 3, 7, 8], (2, 300)), first)
    again[:, 100:] = MISSING
    return annotated(np.stack([first, *again], 1))


def test_agreement_matches_sklearn(looks: AnnotationTable) -> None:
    found = noise_ceiling(looks)
    assert found["num_annotated"] == 300 and found["num_looked_at_again"] == 100
    for pair, (a, b) in zip(found["pairs"], [(0, 1), (0, 2), (1, 2)], strict=True):
        reference, second = looks.ratings[:100, a], looks.ratings[:100, b]
        present = np.unique(reference)
        assert pair["macro_f1"] == pytest.approx(
            f1_score(reference, second, labels=present, average="macro", zero_division=0)
        )
        assert pair["kappa"] == pytest.approx(cohen_kappa_score(reference, second))
        assert pair["accuracy"] == pytest.approx(np.mean(reference == second))
        recalls = [np.mean(second[reference == c] == c) for c in present]
        assert pair["balanced_accuracy"] == pytest.approx(np.mean(recalls))
        if set(second) <= set(reference):
            assert pair["balanced_accuracy"] == pytest.approx(
                balanced_accuracy_score(reference, second)
            )
        assert pair["num_classes"] == len(present) and pair["num_images"] == 100
        for name, (low, high) in pair["intervals"].items():
            assert low < pair[name] < high, name
        assert [row["agreement"] for row in pair["per_class"].values()] == pytest.approx(recalls)
    assert found["pairs"][0]["second_look"] == "first re-annotation"


def test_kappa_interval_matches_bootstrap(looks: AnnotationTable) -> None:
    rng = np.random.default_rng(0)
    a, b = looks.ratings[:100, 0], looks.ratings[:100, 1]
    rows = rng.integers(0, 100, (300, 100))
    drawn = [cohen_kappa_score(a[row], b[row]) for row in rows]
    (pair, *_) = noise_ceiling(looks)["pairs"]
    assert pair["intervals"]["kappa"] == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.03)


def test_second_look_outside_classes_is_an_error_and_reference_is_skipped() -> None:
    blast = class_id("myeloblast")
    found = noise_ceiling(
        annotated(
            [[blast, OUTSIDE, blast], [blast, blast, MISSING], [OUTSIDE, blast, blast]],
            unknown={"XX": 2},
            bad_lines=("line 9: bad",),
        )
    )
    first, second, both = found["pairs"]
    assert first["num_images"] == 2 and first["accuracy"] == 0.5
    assert first["lineage_errors"]["outside"] == 0.5
    assert first["macro_f1"] == pytest.approx(2 / 3)  # recall 1/2, precision 1
    assert second["num_images"] == 1 and second["accuracy"] == 1.0
    assert both["num_images"] == 1
    assert found["num_outside"] == 1 and found["unknown_codes"] == {"XX": 2}
    assert found["bad_lines"] == ["line 9: bad"]


def test_errors_are_counted_by_lineage() -> None:
    names = [
        ("myelocyte", "metamyelocyte"),
        ("myelocyte", "neutrophil_segmented"),
        ("myelocyte", "monocyte"),
        ("myelocyte", "myelocyte"),
    ]
    rows = [[class_id(a), class_id(b), MISSING] for a, b in names]
    (pair, empty, _) = noise_ceiling(annotated(rows))["pairs"]
    assert pair["lineage_errors"] == {
        "one_step": 0.25,
        "same_lineage": 0.25,
        "cross_lineage": 0.25,
        "outside": 0.0,
    }
    assert empty["num_images"] == 0 and "macro_f1" not in empty


def test_merged_classes_agree_and_mildest_error_counts() -> None:
    banded, segmented, meta = (
        class_id(name) for name in ("neutrophil_banded", "neutrophil_segmented", "metamyelocyte")
    )
    looks = annotated([[banded, segmented, MISSING], [meta, segmented, MISSING]])
    merge = ["neutrophil_banded=neutrophil_segmented"]
    (pair, *_) = noise_ceiling(looks, merge=merge)["pairs"]
    assert pair["accuracy"] == 0.5 and pair["num_classes"] == 2
    assert pair["lineage_errors"]["one_step"] == 0.5
    (apart, *_) = noise_ceiling(looks)["pairs"]
    assert apart["accuracy"] == 0.0
    assert apart["lineage_errors"] == {
        "one_step": 0.5, "same_lineage": 0.5, "cross_lineage": 0.0, "outside": 0.0
    }  # fmt: skip


def test_single_class_has_agreement_but_zero_kappa() -> None:
    (pair, *_) = noise_ceiling(annotated([[0, 0, MISSING]] * 5))["pairs"]
    assert pair["accuracy"] == pair["macro_f1"] == 1.0 and pair["kappa"] == 0.0


def test_noise_ceiling_is_json_and_deterministic(looks: AnnotationTable) -> None:
    first, second = (json.dumps(noise_ceiling(looks), allow_nan=False) for _ in range(2))
    assert first == second
    assert json.loads(first)["pairs"][0]["class_names"] == [*NAMES, "outside the eleven classes"]
