"""Published results are marked, cited, and limited to the challenge's laboratories."""

import dataset_scripts
from hf_wbc.comparison.reference_scores import PARTICIPANTS, reported_scores


def test_every_row_is_marked_as_reported_with_its_source() -> None:
    for row in PARTICIPANTS:
        assert row.kind == "reported" and "Help a hematologist out" in row.citation
        assert {*row.sources, row.target} <= {*dataset_scripts.names()}
        assert 0 < row.macro_f1 <= row.accuracy < 1


def test_winners_come_first_in_order() -> None:
    ranked = [row for row in reported_scores("wbc_2") if row.rank]
    assert [row.rank for row in ranked] == [1, 2, 3]
    assert [row.macro_f1 for row in ranked] == [0.67, 0.66, 0.63]
    assert [row.accuracy for row in ranked] == [0.78, 0.76, 0.75]
    assert {row.macro_f1 for row in reported_scores("wbc_1")} == {0.67}
    assert reported_scores("mll_23") == ()
