"""Attributes are phrases that a hematologist would use, and say what is unusual."""

from types import SimpleNamespace
from typing import Any

from hf_wbc.app.reason_text import describe_attributes, reason_sentences
from hf_wbc.inference.attribute_reasons import Reason
from hf_wbc.taxonomy import class_id


def reasons(is_typical: bool = True, **values: str) -> list[Reason]:
    return [Reason(name, value, 0.9, is_typical) for name, value in values.items()]


def test_attributes_of_granules_are_one_phrase() -> None:
    found = reasons(granule_type="round", granule_colour="red", granularity="yes")
    assert describe_attributes(found) == ["round red granules"]
    found = reasons(granule_type="nil", granule_colour="nil", granularity="no")
    assert describe_attributes(found) == ["no granules"]
    assert describe_attributes([]) == []


def test_other_attributes_have_words_of_their_own_or_their_names() -> None:
    found = reasons(
        nucleus_shape="segmented-bilobed", cytoplasm_colour="light blue", cell_size="big",
        lobes_seen="two",
    )  # fmt: skip
    assert describe_attributes(found) == [
        "bilobed nucleus", "light blue cytoplasm", "large cell", "lobes seen: two",
    ]  # fmt: skip


def test_fitting_and_unusual_attributes_are_separated() -> None:
    both = (*reasons(granularity="yes"), *reasons(False, cytoplasm_vacuole="yes"))
    prediction: Any = SimpleNamespace(label=class_id("eosinophil"), reasons=both)
    assert reason_sentences(prediction) == [
        "Called an eosinophil because: granules.", "Unusual for an eosinophil: vacuoles.",
    ]  # fmt: skip
    nothing: Any = SimpleNamespace(label=class_id("eosinophil"), reasons=())
    assert reason_sentences(nothing) == []
