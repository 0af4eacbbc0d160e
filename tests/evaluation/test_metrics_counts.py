"""Merging and selecting classes changes labels and predictions as requested, or fails."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from hf_wbc.evaluation.metrics import confusion_counts, merged_labels
from hf_wbc.taxonomy import NAMES, NUM_CLASSES

BANDED, SEGMENTED, MONOCYTE = (
    NAMES.index(name) for name in ("neutrophil_banded", "neutrophil_segmented", "monocyte")
)
BANDS = "neutrophil_banded=neutrophil_segmented"
ids = st.integers(0, NUM_CLASSES - 1)


@given(st.lists(st.tuples(ids, ids), min_size=1))
def test_counts_match_sklearn(pairs):
    true, predicted = zip(*pairs, strict=True)
    expected = confusion_matrix(true, predicted, labels=range(NUM_CLASSES))
    assert (confusion_counts(true, predicted).confusion == expected).all()


@given(st.lists(st.tuples(ids, ids, st.sampled_from("abc")), min_size=1))
def test_groups_split_the_counts(rows):
    true, predicted, groups = (np.array(column) for column in zip(*rows, strict=True))
    counted = confusion_counts(true, predicted, groups=groups)
    for confusion, group in zip(counted.confusions, sorted(set(groups)), strict=True):
        mine = groups == group
        assert (confusion == confusion_counts(true[mine], predicted[mine]).confusion).all()


def test_unlabeled_images_are_skipped_and_counted():
    counted = confusion_counts([-1, 0, -1], [3, 0, 0])
    assert counted.confusion.sum() == 1
    assert counted.num_unlabeled == 2
    assert counted.num_other == 0


def test_merging_renames_labels_and_predictions():
    counted = confusion_counts(
        [BANDED, SEGMENTED, MONOCYTE], [SEGMENTED, BANDED, BANDED], merge=[BANDS]
    )
    assert "neutrophil_banded" not in counted.names
    assert counted.confusion.shape == (10, 10)
    row, column = counted.names.index("neutrophil_segmented"), counted.names.index("monocyte")
    assert counted.confusion[row, row] == 2
    assert counted.confusion[column, row] == 1
    assert counted.members[row] == (BANDED, SEGMENTED)


def test_two_classes_may_merge_into_a_third():
    into = merged_labels(["myelocyte=promyelocyte", "metamyelocyte=promyelocyte"])
    assert [NAMES[i] for i in into[4:7]] == ["promyelocyte"] * 3


def test_chosen_classes_limit_labels_and_not_predictions():
    counted = confusion_counts([0, 0, 1, 9, -1], [0, 9, 1, 9, 0], classes=["basophil"])
    assert counted.confusion.sum() == 2
    assert counted.confusion[0, 9] == 1
    assert (counted.num_other, counted.num_unlabeled) == (2, 1)


def test_chosen_class_may_be_a_merge_target():
    counted = confusion_counts(
        [BANDED, 0], [SEGMENTED, 0], merge=[BANDS], classes=["neutrophil_segmented"]
    )
    assert counted.confusion.sum() == 1


def test_integral_values_of_any_dtype_are_ids():
    expected = confusion_counts([1, 2], [1, 3]).confusion
    for kind in (np.float32, np.uint8, np.int16):
        assert (
            confusion_counts(np.array([1, 2], kind), np.array([1, 3], kind)).confusion == expected
        ).all()


@pytest.mark.parametrize(
    ("labels", "predictions", "options", "message"),
    [
        ([], [], {}, "no labels"),
        ([0, 1], [0], {}, "2 labels, 1 predictions; there must be one of each"),
        ([0, 1], [0, 1], {"groups": ["a"]}, "1 groups"),
        ([0, 1], [0, 1], {"groups": ["a", None]}, "group in row 1 is missing"),
        ([0, 1], [0, 1], {"groups": [["a", "b"]]}, "groups have shape"),
        ([-1, -1], [0, 1], {}, "none of the 2 images has a label"),
        ([0, 11], [0, 1], {}, "label 11 in row 1"),
        ([0, -2], [0, 1], {}, "label -2 in row 1"),
        ([0, 1], [0, 11], {}, "prediction 11 in row 1 .* from 0 to 10"),
        ([0, 1], [0, -1], {}, "prediction -1 in row 1"),
        ([0, 1], [0, math.nan], {}, "prediction nan in row 1"),
        ([0, 1], [0, math.inf], {}, "prediction inf in row 1"),
        ([0, 1], [0, 0.7], {}, "prediction 0.7 in row 1"),
        ([0, 1], ["basophil", "monocyte"], {}, "give class ids"),
        ([True, False], [1, 0], {}, "labels are bool"),
        ([0, 1], [[0.1, 0.9], [0.5, 0.5]], {}, r"predictions have shape \(2, 2\)"),
        ([0], [0], {"classes": ["monocite"]}, "did you mean 'monocyte'"),
        ([0], [0], {"classes": "basophil"}, r"give a list, such as \['basophil'\]"),
        ([0], [0], {"classes": ["monocyte"]}, "no image of the classes monocyte; there are baso"),
        ([7], [7], {"classes": ["neutrophil_banded"], "merge": [BANDS]}, "is merged; choose 'neu"),
        ([0], [0], {"merge": BANDS}, "merge is the text"),
        ([0], [0], {"merge": ["monocyte"]}, "'monocyte' is not FROM=INTO"),
        ([0], [0], {"merge": ["monocyte=nope"]}, "unknown class 'nope'"),
        ([0], [0], {"merge": ["=monocyte"]}, "unknown class ''"),
        ([0], [0], {"merge": ["monocyte=monocyte"]}, "into itself"),
        ([0], [0], {"merge": [BANDS, BANDS]}, "already merged"),
        ([0], [0], {"merge": [BANDS, "neutrophil_segmented=monocyte"]}, "is itself merged into mo"),
        ([0], [0], {"merge": [BANDS, "neutrophil_segmented=neutrophil_banded"]}, "itself merged"),
    ],
)
def test_bad_input_is_reported(labels, predictions, options, message):
    with pytest.raises(ValueError, match=message):
        confusion_counts(labels, predictions, **options)
