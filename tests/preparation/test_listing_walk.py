"""Class folders are found at any depth, and none of their files is skipped."""

from dataclasses import dataclass

import pytest

from hf_wbc.preparation.listing import class_folders
from hf_wbc.preparation.source import Entry

FOLDERS = {"basophil": ("BA",), "ig": ("MY", "PMY")}


@dataclass(frozen=True)
class Listing:
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        raise AssertionError(f"walking reads nothing, not even {name}")


def walk(*names: str) -> list[Entry]:
    return list(class_folders(Listing(tuple(sorted(names))), "the archive", FOLDERS, str.upper))


@pytest.mark.parametrize("root", ["", "PBC/", "some where/PBC (1)/"])
def test_entries_are_independent_of_parent_folders(root: str) -> None:
    entries = walk(f"{root}ig/PMY_1.JPG", f"{root}ig/MY_2.JPG", f"{root}Basophil/ba_3.jpg")
    assert [(e.image_id, e.source_label) for e in entries] == [
        ("BA_3.JPG", "BA"),
        ("MY_2.JPG", "MY"),
        ("PMY_1.JPG", "PMY"),
    ]
    assert entries[0].member == f"{root}Basophil/ba_3.jpg"


def test_unknown_names_are_yielded_unchanged() -> None:
    entries = walk("PBC/ig/MY_1.JPG", "PBC/ig/XY_1.JPG", "PBC/ig/NOTES", "PBC/blasts/BL_1.JPG")
    assert [e.source_label for e in entries] == ["BL", "MY", "NOTES", "XY"]


def test_other_files_beside_the_folders_are_ignored() -> None:
    entries = walk("PBC/ig/MY_1.JPG", "PBC/annotations.dat", "PBC/docs/a.txt", "other/x/MY_1.JPG")
    assert [e.member for e in entries] == ["PBC/ig/MY_1.JPG"]


@pytest.mark.parametrize("name", ["PBC/ig/BA_1.JPG", "PBC/BA_1.JPG", "PBC/basophil/old/BA_1.JPG"])
def test_file_in_folder_of_another_class_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} has the code BA, .* in the folder basophil"):
        walk("PBC/ig/MY_1.JPG", name)


def test_two_copies_in_one_archive_are_an_error() -> None:
    with pytest.raises(ValueError, match="more than once here: the top level, train/; choose one"):
        walk("ig/MY_1.JPG", "train/ig/MY_2.JPG")


def test_two_files_with_same_id_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"ig/MY_1\.JPG and ig/my_1\.jpg are both MY_1\.JPG"):
        walk("ig/MY_1.JPG", "ig/my_1.jpg")


def test_another_archive_is_an_error_listing_what_was_found() -> None:
    with pytest.raises(ValueError) as error:
        walk("MLL23/basophil/basophil_0001.TIF", "MLL23/blast/b_1.TIF", "MLL23/blast/b_2.TIF")
    assert str(error.value) == (
        "this is not the archive: looked for the folders basophil, ig with files such as "
        "basophil/BA_..., and found MLL23/blast (2 files), MLL23/basophil (1 files), "
        "such as MLL23/basophil/basophil_0001.TIF"
    )


def test_nested_archive_is_reported() -> None:
    with pytest.raises(ValueError, match=r"unpack A dataset/PBC\.zip and use what is inside"):
        walk("A dataset/PBC.zip", "A dataset/README.txt")
