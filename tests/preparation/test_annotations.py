"""annotations.dat is read line by line, and uninformative lines are counted."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

import dataset_scripts
from hf_wbc.preparation.annotations import MISSING, OUTSIDE, read_annotations
from hf_wbc.taxonomy import class_id

LABELS = dataset_scripts.load("matek_19").labels
TABLE = """\
BAS/BAS_0001.tiff BAS nan nan
MYO/MYO_0002.tiff\tMYO  MYB\tMYO
MON/MON_0003.tiff MON MOB LYA
KSC/KSC_0001.tiff KSC LYT nan
LYT/LYT_0001.tiff LYT
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "annotations.dat"
    path.write_text(TABLE)
    return path


def test_codes_become_classes_missing_or_outside(table: Path) -> None:
    found = read_annotations(table, LABELS)
    assert found.image_ids == (
        "BAS_0001.tiff", "MYO_0002.tiff", "MON_0003.tiff", "KSC_0001.tiff", "LYT_0001.tiff"
    )  # fmt: skip
    blast, myelocyte, monocyte = map(class_id, ("myeloblast", "myelocyte", "monocyte"))
    np.testing.assert_array_equal(
        found.ratings,
        [
            [class_id("basophil"), MISSING, MISSING],
            [blast, myelocyte, blast],
            [monocyte, monocyte, OUTSIDE],
            [OUTSIDE, class_id("lymphocyte_typical"), MISSING],
            [class_id("lymphocyte_typical"), MISSING, MISSING],
        ],
    )
    assert not found.bad_lines and not found.unknown


def test_unusable_lines_are_reported_and_unknown_codes_counted(table: Path) -> None:
    table.write_text(
        TABLE
        + "EOS/EOS_0001.tiff EOS EOS\n"
        + "EOS/EOS_0002.tiff XXX EOS EOS\n"
        + "\n"
        + "BAS/BAS_0001.tiff BAS BAS BAS\n"
        + "EOS/EOS_0003.tiff BAS BAS BAS\n"
        + "EOS/EOS_0004.tiff EOS ??? NGS\n",
        encoding="utf-8",
    )
    found = read_annotations(table, LABELS)
    assert found.bad_lines == (
        "line 6: 3 fields instead of 4 (path, annotation, two re-annotations)",
        "line 7: unknown annotation 'XXX' of EOS/EOS_0002.tiff",
        "line 9: BAS_0001.tiff already has a line",
        "line 10: EOS/EOS_0003.tiff is annotated as BAS but is in the folder of another class",
    )
    assert found.unknown == {"???": 1}
    assert found.image_ids[-1] == "EOS_0004.tiff"
    assert found.ratings[-1].tolist() == [1, MISSING, class_id("neutrophil_segmented")]


def test_annotations_are_found_inside_an_archive(table: Path, tmp_path: Path) -> None:
    packed = tmp_path / "AML.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("AML-Cytomorphology_LMU/annotations.dat", TABLE)
        archive.writestr("AML-Cytomorphology_LMU/AML-Cytomorphology/BAS/BAS_0001.tiff", b"")
    found, expected = read_annotations(packed, LABELS), read_annotations(table, LABELS)
    np.testing.assert_array_equal(found.ratings, expected.ratings)
    assert found.image_ids == expected.image_ids


@pytest.mark.parametrize("content", ["", "a,b,c\n1,2,3\n", "path BAS BAS BAS BAS\n"])
def test_file_without_annotations_is_refused(table: Path, content: str) -> None:
    table.write_text(content, encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"annotations\.dat contains no annotations; a line consists of"
    ):
        read_annotations(table, LABELS)


def test_archive_without_annotations_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "BAS_0001.tiff").touch()
    with pytest.raises(ValueError, match=r"looked for annotations\.dat in .* and found none"):
        read_annotations(tmp_path / "cells", LABELS)


def test_toy_archive_annotations_are_read(tmp_path: Path) -> None:
    """Its codes are those of the archive, and no toy has a second annotation."""
    from hf_wbc.toy.archives import LABORATORIES, _annotate, _jobs

    (matek,) = (lab for lab in LABORATORIES if lab.source == "matek_19")
    (tmp_path / matek.archive).mkdir(parents=True)
    _annotate(tmp_path, list(_jobs("tiny")))
    found = read_annotations(tmp_path / matek.archive, LABELS)
    assert not found.bad_lines and not found.unknown
    assert (found.ratings[:, 0] >= 0).all() and (found.ratings[:, 1:] == MISSING).all()
