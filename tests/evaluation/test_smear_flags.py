"""Flags use the laboratory's limits, respect manual corrections, and state emergencies."""

from pathlib import Path

import numpy as np
import pytest

from hf_wbc.evaluation.differential import differential
from hf_wbc.evaluation.slide import UNKNOWN
from hf_wbc.evaluation.smear_flags import Flag, smear_flags
from hf_wbc.evaluation.smear_limits import Limit, load_limits
from hf_wbc.taxonomy import NUM_CLASSES, class_id

BLAST, LYMPHOCYTE = class_id("myeloblast"), class_id("lymphocyte_typical")


def flags_of(
    counts: dict[str, int], names: dict[int, int] | None = None, **limits: float
) -> dict[str, Flag]:
    """Return the flags of a plain count of certain predictions, with manual corrections by row."""
    labels = np.repeat([class_id(name) for name in counts], list(counts.values()))
    corrections = np.full(len(labels), UNKNOWN)
    for row, label in (names or {}).items():
        corrections[row] = label
    chances = np.eye(NUM_CLASSES)[labels]
    found = differential(chances, None, corrections=corrections)
    own = {**load_limits(), **{name: Limit(value) for name, value in limits.items()}}
    flags = smear_flags(found, chances, named=corrections != UNKNOWN, limits=own)
    return {flag.name: flag for flag in flags}


@pytest.mark.parametrize(
    ("counts", "name", "words"),
    [
        ({"promyelocyte": 12}, "promyelocytes", "exclude acute promyelocytic leukemia (APL)"),
        ({"myeloblast": 15, "promyelocyte": 8}, "blast_equivalents", "acute leukemia"),
        ({"neutrophil_banded": 15}, "left_shift", "15.0 % of the white cells"),
        ({"myelocyte": 5}, "immature", "mmature granulocytes: 5.0 %"),
        ({"eosinophil": 9}, "eosinophilia", "absolute count"),
        ({"basophil": 4}, "basophilia", "absolute count"),
        ({"monocyte": 14}, "monocytosis", "absolute count"),
        ({"lymphocyte_typical": 60}, "lymphocytosis", "absolute count"),
    ],
)
def test_each_finding_is_flagged_and_normal_smear_is_not(
    counts: dict[str, int], name: str, words: str
) -> None:
    rest = {"neutrophil_segmented": 100 - sum(counts.values())}
    flag = flags_of({**rest, **counts})[name]
    assert flag.level in ("yes", "possible") and words in flag.text
    normal = {"neutrophil_segmented": 62, "lymphocyte_typical": 28, "monocyte": 6, "eosinophil": 3}
    assert set(flags_of({**normal, "neutrophil_banded": 1})) == {"uncorrected"}


def test_blast_named_by_a_person_is_certain() -> None:
    flag = flags_of({"neutrophil_segmented": 100}, {7: BLAST})["blasts"]
    assert flag.level == "yes" and "Possible" not in flag.text
    assert "1.0 % of the white cells (1 cell, all named by a person)" in flag.text
    assert flag.cells == ()  # nothing to review


def test_blast_renamed_by_a_person_is_not_flagged() -> None:
    assert "blasts" in flags_of({"neutrophil_segmented": 99, "myeloblast": 1})
    named = {99: LYMPHOCYTE}
    assert "blasts" not in flags_of({"neutrophil_segmented": 99, "myeloblast": 1}, named)


def test_named_cells_beyond_limit_make_the_flag_certain() -> None:
    counts = {"neutrophil_segmented": 88, "neutrophil_banded": 12}
    assert flags_of(counts)["left_shift"].level == "possible"
    named = {row: class_id("neutrophil_banded") for row in range(88, 100)}
    assert flags_of(counts, named)["left_shift"].level == "yes"


def test_nrbc_correct_white_count_from_five_per_100() -> None:
    few = flags_of({"neutrophil_segmented": 100, "erythroblast": 4})["nrbc"]
    assert "4.0 per 100 WBC" in few.text and "Corrected" not in few.text
    many = flags_of({"neutrophil_segmented": 100, "erythroblast": 25})["nrbc"]
    assert "25.0 per 100 WBC" in many.text and "x 100 / (100 + 25.0) = x 0.800" in many.text
    assert "nrbc" not in flags_of({"neutrophil_segmented": 200, "erythroblast": 1})


def test_laboratory_can_set_its_own_limits(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('eosinophilia.above = 20\n[monocytosis]\nabove = 8.5\nsource = "our own"\n')
    limits = load_limits(file)
    assert limits["eosinophilia"] == Limit(20.0, "set in own.toml")
    assert limits["monocytosis"] == Limit(8.5, "our own")
    assert limits["left_shift"] == load_limits()["left_shift"]
    counts = {"neutrophil_segmented": 91, "eosinophil": 9}
    assert "eosinophilia" not in flags_of(counts, eosinophilia=20.0)
    assert all(limit.source for limit in limits.values())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("eosinophila.above = 3", "did you mean"),
        ("eosinophilia.above = 'many'", "give a percentage"),
        ("eosinophilia.above = nan", "give a percentage"),
        ("eosinophilia.above = true", "give a percentage"),
        ("eosinophilia.below = 3", "`above` and a text `source` only"),
        ("eosinophilia.above = ", "cannot be read"),
        ("eosinophilia.above = " + "[" * 5000, "cannot be read"),
        ("eosinophilia.above = " + "9" * 5000, "cannot be read"),
    ],
)
def test_invalid_limit_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "own.toml").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_limits(tmp_path / "own.toml")
    with pytest.raises(ValueError, match="cannot be read"):
        load_limits(tmp_path / "none.toml")
