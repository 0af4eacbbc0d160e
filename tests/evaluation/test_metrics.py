"""Scores match scikit-learn, and lineage errors match a manual count."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    cohen_kappa_score,
    f1_score,
    matthews_corrcoef,
    precision_score,
    recall_score,
)

from hf_wbc.evaluation.metrics import accuracy, balanced_accuracy, confusion_counts, macro_f1, score
from hf_wbc.taxonomy import NAMES, NUM_CLASSES, class_id

ids = st.integers(0, NUM_CLASSES - 1)
few = st.sampled_from([1, 4, 8, 10])
BANDS = "neutrophil_banded=neutrophil_segmented"


def named(*names):
    return [class_id(name) for name in names]


@given(st.lists(st.tuples(few, ids), min_size=1))
def test_scores_match_sklearn_over_present_classes(pairs):
    true, predicted = zip(*pairs, strict=True)
    present = sorted(set(true))
    scores = score(true, predicted)
    options = {"labels": present, "zero_division": 0}
    assert scores["macro_f1"] == pytest.approx(
        f1_score(true, predicted, average="macro", **options)
    )
    assert scores["balanced_accuracy"] == pytest.approx(
        recall_score(true, predicted, average="macro", **options)
    )
    assert scores["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert scores["num_classes"] == len(present)
    for key, of in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        expected = of(true, predicted, average=None, **options)
        found = [scores["per_class"][NAMES[i]][key] for i in present]
        assert found == pytest.approx(expected)


def test_scores_match_manual_count():
    # basophil: 2 of 3 found, 1 of 3 predictions wrong: P = R = F1 = 2/3. monocyte: 1 of 2 found, no
    # wrong predictions: P = 1, R = 1/2, F1 = 2/3. lymphocyte: 1 of 1 found, 1 of 2 predictions
    # right: P = 1/2, R = 1, F1 = 2/3.
    scores = score([0, 0, 0, 9, 9, 10], [0, 0, 10, 9, 0, 10])
    assert scores["macro_f1"] == pytest.approx(2 / 3)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert scores["per_class"]["monocyte"] == {
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
        "support": 2,
    }
    assert list(scores["per_class"]) == ["basophil", "monocyte", "lymphocyte_typical"]
    assert scores["num_images"] == 6


def test_prediction_of_absent_class_is_an_error_and_adds_no_class():
    # basophil: P = 1, R = 1/2, F1 = 2/3; monocyte: perfect.
    true, predicted = (
        named("basophil", "basophil", "monocyte"),
        named("basophil", "eosinophil", "monocyte"),
    )
    scores = score(true, predicted)
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores["num_classes"] == 2
    assert "eosinophil" not in scores["per_class"]
    assert f1_score(true, predicted, average="macro") == pytest.approx((2 / 3 + 1) / 3)


def test_worst_class_has_lowest_f1():
    scores = score([0, 0, 1, 9], [0, 0, 2, 9])
    assert scores["worst_class"] == {"name": "eosinophil", "f1": 0.0}


def test_lineage_errors_match_manual_count():
    true = named(
        "myelocyte",
        "myelocyte",
        "myelocyte",
        "monocyte",
        "basophil",
        "erythroblast",
        "neutrophil_banded",
        "monocyte",
    )
    predicted = named(
        "metamyelocyte",  # one step
        "neutrophil_banded",  # two steps: the same lineage
        "monocyte",  # another lineage
        "monocyte",  # correct
        "eosinophil",  # the same lineage
        "lymphocyte_typical",  # another lineage
        "neutrophil_segmented",  # one step
        "monocyte",  # correct
    )
    errors = score(true, predicted)["lineage_errors"]
    assert errors == {"one_step": 2 / 8, "same_lineage": 2 / 8, "cross_lineage": 2 / 8}


@given(st.lists(st.tuples(ids, ids), min_size=1))
def test_accuracy_and_lineage_errors_sum_to_one(pairs):
    scores = score(*zip(*pairs, strict=True), merge=[BANDS])
    assert scores["accuracy"] + sum(scores["lineage_errors"].values()) == pytest.approx(1)


def test_errors_are_graded_by_what_they_cost():
    true = named(*["myeloblast"] * 4, "promyelocyte", *["lymphocyte_typical"] * 3, "erythroblast",
                 "neutrophil_banded")  # fmt: skip
    called = named("lymphocyte_typical", "monocyte", "promyelocyte", "myeloblast", "myelocyte",
                   "myeloblast", "monocyte", "lymphocyte_typical", "lymphocyte_typical",
                   "neutrophil_segmented")  # fmt: skip
    graded = score(true, called)["consequences"]
    assert graded["missed_blasts"] == {"num": 3, "of": 5}
    assert graded["blasts_as_lymphocytes"] == {"num": 1, "of": 5}
    assert graded["false_blast_alarms"] == {"num": 1, "of": 5}
    assert graded["red_as_white"] == {"num": 1, "of": 1}
    # A false alarm, another lineage and a red cell; a blast for a promyelocyte, a segmented band.
    assert (graded["critical"], graded["serious"], graded["minor"]) == (0.3, 0.3, 0.2)


@given(st.lists(st.tuples(ids, ids), min_size=1))
def test_every_error_has_one_grade(pairs):
    scores = score(*zip(*pairs, strict=True), merge=[BANDS])
    shares = [scores["consequences"][kind] for kind in ("minor", "serious", "critical")]
    assert scores["accuracy"] + sum(shares) == pytest.approx(1)


def test_merged_class_is_as_near_as_its_nearest_member():
    true, predicted = named("metamyelocyte"), named("neutrophil_segmented")
    assert score(true, predicted)["lineage_errors"]["same_lineage"] == 1
    assert score(true, predicted, merge=[BANDS])["lineage_errors"]["one_step"] == 1


def test_merging_forgives_only_errors_within_merged_class():
    true, predicted = (
        named("neutrophil_banded", "monocyte"),
        named("neutrophil_segmented", "basophil"),
    )
    assert score(true, predicted)["accuracy"] == 0
    scores = score(true, predicted, merge=[BANDS])
    assert scores["accuracy"] == 0.5
    assert scores["class_names"] == [name for name in NAMES if name != "neutrophil_banded"]
    assert scores["merge"] == [BANDS]


def test_confusion_rows_are_true_classes():
    scores = score([3, 3, 4], [4, 4, 3])
    assert scores["confusion"][3][4] == 2
    assert scores["confusion"][4][3] == 1
    assert scores["class_names"] == list(NAMES)


def test_scores_are_json_values():
    scores = score([0, 9, -1, 7], [0, 10, 1, 7], merge=(BANDS,), classes=("basophil", "monocyte"))
    assert json.loads(json.dumps(scores)) == scores
    assert (scores["num_images"], scores["num_unlabeled"], scores["num_other"]) == (2, 1, 1)
    assert scores["classes"] == ["basophil", "monocyte"]


def test_correlation_and_kappa_match_sklearn():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 6, 300)
    predicted = np.where(rng.random(300) < 0.6, true, rng.integers(0, 11, 300))
    scores = score(true, predicted)
    assert scores["mcc"] == pytest.approx(matthews_corrcoef(true, predicted))
    assert scores["kappa"] == pytest.approx(cohen_kappa_score(true, predicted))
    alone = score([2, 2], [2, 2])
    assert alone["mcc"] == alone["kappa"] == 0  # one class: undefined, 0 as in scikit-learn


@pytest.mark.parametrize("of", [macro_f1, accuracy, balanced_accuracy])
def test_stacked_confusions_are_scored_individually(of):
    generator = np.random.default_rng(0)
    stack = generator.integers(0, 3, (4, 5, NUM_CLASSES, NUM_CLASSES))
    stack[:, :, 6] = 0
    assert of(stack).shape == (4, 5)
    for index in np.ndindex(4, 5):
        assert of(stack)[index] == of(stack[index])


def test_order_of_images_does_not_matter():
    generator = np.random.default_rng(1)
    true, predicted = generator.integers(0, NUM_CLASSES, (2, 99))
    order = generator.permutation(99)
    assert score(true, predicted) == score(true[order], predicted[order])


def test_grouped_counts_score_like_ungrouped():
    from hf_wbc.evaluation.metrics import summarize

    true, predicted = [0, 0, 9, 9], [0, 9, 9, 9]
    assert summarize(confusion_counts(true, predicted, groups=["a", "b", "a", "b"])) == score(
        true, predicted
    )


def test_metrics_import_only_numpy():
    code = (
        "import sys, hf_wbc.evaluation.bootstrap, hf_wbc.evaluation.model_selection;"
        "print(*{'torch', 'sklearn', 'scipy', 'evaluate', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
