"""The class order is fixed; relations follow lineage and maturation."""

import pytest

from hf_wbc.taxonomy import (
    CLASSES,
    CLINICAL_ORDER,
    NAMES,
    NUM_CLASSES,
    Relation,
    class_id,
    consequence,
    relation,
)


def test_class_order_is_that_of_the_challenge() -> None:
    assert NAMES == (
        "basophil",
        "eosinophil",
        "erythroblast",
        "myeloblast",
        "promyelocyte",
        "myelocyte",
        "metamyelocyte",
        "neutrophil_banded",
        "neutrophil_segmented",
        "monocyte",
        "lymphocyte_typical",
    )


def test_neutrophil_line_has_six_stages() -> None:
    chain = sorted((cell for cell in CLASSES if cell.maturation), key=lambda c: c.maturation or 0)
    assert [cell.maturation for cell in chain] == [1, 2, 3, 4, 5, 6]
    assert chain[0].name == "myeloblast" and chain[-1].name == "neutrophil_segmented"


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        ("monocyte", "monocyte", Relation.SAME),
        ("neutrophil_banded", "neutrophil_segmented", Relation.ONE_STEP),
        ("myeloblast", "myelocyte", Relation.SAME_LINEAGE),
        ("basophil", "eosinophil", Relation.SAME_LINEAGE),
        ("myeloblast", "lymphocyte_typical", Relation.CROSS_LINEAGE),
    ],
)
def test_relation_is_symmetric_and_follows_the_tree(
    true: str, predicted: str, expected: Relation
) -> None:
    a, b = class_id(true), class_id(predicted)
    assert relation(a, b) == relation(b, a) == expected


def test_unknown_class_suggests_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'neutrophil_banded'"):
        class_id("neutrophil_band")


def test_confusion_is_graded_by_its_consequence() -> None:
    def grade(true: str, predicted: str) -> str:
        return consequence(class_id(true), class_id(predicted)).name

    assert grade("myeloblast", "lymphocyte_typical") == "CRITICAL"
    assert grade("promyelocyte", "myelocyte") == "CRITICAL"  # one step of maturation only
    assert grade("lymphocyte_typical", "myeloblast") == "SERIOUS"
    assert grade("erythroblast", "lymphocyte_typical") == "SERIOUS"
    assert grade("myeloblast", "promyelocyte") == "MINOR"  # blast equivalents both
    assert grade("neutrophil_banded", "neutrophil_segmented") == "MINOR"
    assert grade("monocyte", "monocyte") == "NONE"


def test_clinical_order_has_every_class_with_white_cells_first() -> None:
    assert sorted(CLINICAL_ORDER) == list(range(NUM_CLASSES))
    assert [CLASSES[c].is_white for c in CLINICAL_ORDER] == [True] * 10 + [False]
    assert [CLASSES[c].clinical_name for c in CLINICAL_ORDER[:3]] == [
        "segmented neutrophil", "band neutrophil", "lymphocyte",
    ]  # fmt: skip
