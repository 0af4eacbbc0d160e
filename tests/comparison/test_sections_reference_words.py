"""Reference scores state their origin and what they leave out."""

import numpy as np

from hf_wbc.comparison.export import markdown
from hf_wbc.comparison.reference_scores import noise_ceiling
from hf_wbc.comparison.sections import ceiling_rows, ceiling_sections, reference_sections
from hf_wbc.preparation.annotations import MISSING, OUTSIDE, AnnotationTable
from hf_wbc.taxonomy import NAMES


def annotated(*rows: tuple[int, int, int]) -> AnnotationTable:
    ids = tuple(f"{number}.tiff" for number in range(len(rows)))
    return AnnotationTable(ids, np.array(rows), {"XX": 2}, ("line 7: 3 fields",))


def test_participants_are_listed_only_for_challenge_domains() -> None:
    assert [*reference_sections(["toy_a", "my_lab"])] == []
    (section,) = reference_sections(["acevedo_20", "wbc_2"])
    said = markdown([section])
    assert "Reported, not measured here: Help a hematologist out!" in said
    assert "| ResNet-34 | acevedo\\_20 + matek\\_19 → wbc\\_2 |" in said
    assert "| 0.67 | 0.78 |" in said


def test_pairs_and_classes_state_what_was_left_out() -> None:
    rows = [(0, 0, MISSING), (0, 1, MISSING), (8, 8, 8), (8, OUTSIDE, 8), (OUTSIDE, 0, 0)]
    ceiling = noise_ceiling(annotated(*rows))
    pairs, classes = ceiling_sections(ceiling)
    assert pairs.table is not None and classes.table is not None
    (first, second, third) = pairs.table.cells
    assert first[:2] == ("annotation", "first re-annotation")
    assert first[3].startswith("0.500 [") and first[-2:] == ("2", "4")
    assert second[3] == "1.000 [1.000, 1.000]" and third[:2] == (
        "first re-annotation",
        "second re-annotation",
    )
    assert classes.table.cells == (
        (NAMES[0], "0.500 of 2", "", "1.000 of 1"),
        (NAMES[8], "0.500 of 2", "1.000 of 2", "1.000 of 1"),
    )
    said = " ".join(pairs.paragraphs)
    assert "5 of 5 images were annotated again" in said
    assert "1 image outside the eleven classes excluded" in said
    assert "XX (2)" in said and "line 7: 3 fields" in said


def test_archive_annotated_once_has_no_ceiling() -> None:
    (section,) = ceiling_sections(noise_ceiling(annotated((0, MISSING, MISSING))))
    assert section.table is None
    assert "No second annotations: 1 image annotated once" in section.paragraphs[0]


def test_ceiling_rows_are_flat_with_equal_keys() -> None:
    ceiling = noise_ceiling(annotated((0, 0, MISSING), (8, 3, 3), (2, 2, 2)))
    rows = ceiling_rows(ceiling)
    assert len({tuple(row) for row in rows}) == 1
    assert all(isinstance(value, str | int | float) for row in rows for value in row.values())
    assert rows[0]["macro_f1_low"] <= rows[0]["macro_f1"] <= rows[0]["macro_f1_high"]
