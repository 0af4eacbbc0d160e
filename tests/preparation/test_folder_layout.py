"""The folders in which laboratories keep images: layouts of patient, visit and class."""

import pytest

from hf_wbc.preparation.folder_layout import FolderLayout, match_layouts

SIGNED = FolderLayout("{patient}/Signed slides/{class}")
UNSIGNED = FolderLayout("{patient}/Unsigned slides")


@pytest.mark.parametrize(
    ("name", "patient", "class_folder", "rest"),
    [
        ("Patient_00/Signed slides/Blast/a.jpg", "Patient_00", "Blast", ""),
        ("export/2024/Patient_00/signed SLIDES/Blast/a.jpg", "Patient_00", "Blast", ""),
        ("Patient_00/Signed slides/Blast/day 2/a.jpg", "Patient_00", "Blast", "day 2"),
    ],
)
def test_layout_matches_at_any_depth(name, patient, class_folder, rest):
    found = SIGNED.match(name)
    assert (found.patient, found.class_folder, found.rest) == (patient, class_folder, rest)
    assert found.file == "a.jpg"


def test_field_can_be_part_of_a_folder_name():
    found = FolderLayout("P{patient}/V{visit}").match("P12/V3/a.jpg")
    assert (found.patient, found.visit) == ("12", "3")


@pytest.mark.parametrize("name", ["a.jpg", "P/Unsigned slides/a.jpg", "P/Signed slides/a.jpg"])
def test_other_folders_do_not_match(name):
    assert SIGNED.match(name) is None


def test_first_matching_layout_is_used():
    layout, found = match_layouts([SIGNED, UNSIGNED], "P_1/Unsigned slides/a.jpg")
    assert layout is UNSIGNED
    assert not layout.has_class
    assert found.patient == "P_1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{patient}/{klass}", "klass"),
        ("{patient}/{patient}", "twice"),
        ("slides", "neither"),
        ("{visit}", "neither"),
        ("{patient}//{class}", "malformed"),
        ("{patient}/{class", "malformed"),
        ("/{class}", "malformed"),
        ("{patient}\\{class}", "malformed"),
    ],
)
def test_invalid_layout_is_explained(text, said):
    with pytest.raises(ValueError, match=said):
        FolderLayout(text)
