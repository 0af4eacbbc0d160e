"""MLL23: the class matrix, the layouts when unpacked, and the toy archive in its layout."""

import re
from collections import Counter
from dataclasses import dataclass

import pytest

import dataset_scripts
from hf_wbc.preparation.source import Entry
from hf_wbc.taxonomy import NAMES
from hf_wbc.toy.archives import LABORATORIES

SOURCE = dataset_scripts.load("mll_23")


@dataclass(frozen=True)
class Listing:
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        raise AssertionError(f"walking reads nothing, not even {name}")


def walk(*names: str) -> list[Entry]:
    return list(SOURCE.walk(Listing(tuple(sorted(names)))))


def test_class_matrix_has_expected_sums() -> None:
    outside = [code for code, cell in SOURCE.labels.items() if cell is None]
    assert sum(SOURCE.archive_counts.values()) == 41_621
    assert sum(SOURCE.used_counts.values()) == 31_615
    assert (len(SOURCE.labels), len(outside)) == (18, 7)
    assert tuple(cell for cell in SOURCE.labels.values() if cell) == NAMES
    for code, cell in SOURCE.labels.items():
        if cell:
            assert SOURCE.used_counts[cell] == SOURCE.archive_counts[code]


@pytest.mark.parametrize(
    ("root", "folder", "most"),
    [
        ("", "{0}", 100_000),
        ("a b/MLL23_dataset/", "{0}/{0}", 100_000),
        ("MLL23/", "{0}", 20),
        ("a b/MLL23_dataset/", "{0}", 20),
        ("", "{0}/{0}", 20),
        ("MLL23/", "{0}/{0}", 20),
    ],
)
def test_complete_archive_is_walked_in_any_unpacked_layout(
    root: str, folder: str, most: int
) -> None:
    """Walk all files in two layouts, and at most `most` of a class in the others."""
    counts = {code: min(count, most) for code, count in SOURCE.archive_counts.items()}
    names = [
        f"{root}{folder.format(code)}/{code}_{number:04d}.TIF"
        for code, count in counts.items()
        for number in range(1, count + 1)
    ]
    entries = walk(*names)
    assert Counter(entry.source_label for entry in entries) == counts
    assert all(re.fullmatch(SOURCE.image_id, entry.image_id) for entry in entries)
    assert [entry.image_id for entry in entries] == sorted({e.image_id for e in entries})


def test_label_with_underscores_is_read_completely() -> None:
    """lymphocyte is a prefix of lymphocyte_reactive; neutrophil_band contains an underscore."""
    entries = walk(
        "lymphocyte/lymphocyte_0001.TIF",
        "lymphocyte_reactive/lymphocyte_reactive_0001.TIF",
        "neutrophil_band/Neutrophil_Band_0001.tif",
    )
    assert [(entry.image_id, entry.source_label) for entry in entries] == [
        ("lymphocyte_0001.TIF", "lymphocyte"),
        ("lymphocyte_reactive_0001.TIF", "lymphocyte_reactive"),
        ("neutrophil_band_0001.TIF", "neutrophil_band"),
    ]


def test_foreign_files_are_yielded_with_their_codes() -> None:
    entries = walk("basophil/basophil_0001.TIF", "basophil/BA_123.jpg", "basophil/BAS_0001.tiff")
    assert [e.source_label for e in entries if e.source_label not in SOURCE.labels] == ["BAS", "BA"]


def test_class_in_folder_of_another_is_an_error() -> None:
    with pytest.raises(
        ValueError, match="has the code monocyte, which belongs in the folder monocyte"
    ):
        walk("basophil/basophil_0001.TIF", "basophil/monocyte_0001.TIF")


def test_class_unpacked_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"are both basophil_0001\.TIF; keep only the original"):
        walk("basophil/basophil_0001.TIF", "basophil/basophil/basophil_0001.TIF")


def test_packed_classes_must_be_unpacked() -> None:
    with pytest.raises(ValueError, match=r"unpack basophil\.zip and 1 more and use what is inside"):
        walk("basophil.zip", "monocyte.zip")


def test_acevedo_with_same_folder_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"this is not MLL23.*found PBC/basophil \(1 files\)"):
        walk("PBC/basophil/BA_1.jpg", "PBC/ig/MY_1.jpg")


def test_toy_archive_has_the_same_layout() -> None:
    (toy,) = (laboratory for laboratory in LABORATORIES if laboratory.source == "mll_23")
    entries = walk(*(f"{toy.archive}/{toy.path(cell, i)}" for cell in toy.codes for i in range(2)))
    assert len(entries) == 22
    assert {SOURCE.labels[entry.source_label] for entry in entries} == set(NAMES)
    assert all(re.fullmatch(SOURCE.image_id, entry.image_id) for entry in entries)
