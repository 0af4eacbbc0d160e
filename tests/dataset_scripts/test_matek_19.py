"""Matek_19: the class matrix, names of copied files, and the real TIFFs."""

import hashlib
import re
from pathlib import Path

import pytest

import dataset_scripts
from hf_wbc.data.archive import open_archive
from hf_wbc.data.crop import crop_um
from hf_wbc.data.image_io import decode_rgb
from hf_wbc.preparation.source import Entry

SOURCE = dataset_scripts.load("matek_19")


def walk(folder: Path, *names: str) -> list[Entry]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return list(SOURCE.walk(open_archive(folder, folder / "scratch")))


def test_class_matrix_has_expected_sums() -> None:
    assert len(SOURCE.labels) == 15
    assert sum(SOURCE.used_counts.values()) == 18_321
    assert sum(SOURCE.archive_counts.values()) == 18_365
    for cell, number in SOURCE.used_counts.items():
        codes = [code for code, label in SOURCE.labels.items() if label == cell]
        assert number == sum(SOURCE.archive_counts[code] for code in codes)


def test_myo_is_myeloblast_and_myb_is_myelocyte() -> None:
    assert SOURCE.labels["MYO"] == "myeloblast"
    assert SOURCE.labels["MYB"] == "myelocyte"


def test_monoblasts_count_as_monocytes_and_three_codes_are_outside() -> None:
    assert SOURCE.labels["MOB"] == "monocyte"
    assert [code for code, cell in SOURCE.labels.items() if cell is None] == ["PMB", "KSC", "LYA"]


@pytest.mark.parametrize(
    "root", ["", "AML-Cytomorphology_LMU/AML-Cytomorphology/", "PKG - AML-Cytomorphology_LMU/x/"]
)
def test_complete_archive_gives_names_of_the_challenge(tmp_path: Path, root: str) -> None:
    class Listing:
        names = tuple(
            sorted(
                f"{root}{code}/{code}_{number:04d}.tiff"
                for code, count in SOURCE.archive_counts.items()
                for number in range(1, count + 1)
            )
        )

        def read(self, name: str) -> bytes:
            raise AssertionError(name)

    used = [e.image_id for e in SOURCE.walk(Listing()) if SOURCE.labels[e.source_label]]
    assert len(used) == 18_321
    assert hashlib.sha256("\n".join(used).encode()).hexdigest() == SOURCE.names_sha256
    assert all(re.fullmatch(SOURCE.image_id, image_id) for image_id in used)


def test_suffixes_added_by_copying_are_removed(tmp_path: Path) -> None:
    entries = walk(
        tmp_path,
        "a/BAS/BAS_0001 (2021_05_21 20_42_39 UTC).tiff",
        "a/bas/bas_0002.TIF",
        "a/MYB/MYB_0038.tiff (2021_05_21 20_42_39 UTC).tiff",
        "a/MYB/MYB_0039.tiff",
        "a/annotations.dat",
        "abbreviations.txt",
    )
    assert [(e.image_id, e.source_label) for e in entries] == [
        ("BAS_0001.tiff", "BAS"),
        ("BAS_0002.tiff", "BAS"),
        ("MYB_0038.tiff", "MYB"),
        ("MYB_0039.tiff.tiff", "MYB"),
    ]


def test_other_additions_to_a_name_are_rejected(tmp_path: Path) -> None:
    first, _ = walk(tmp_path, "a/BAS/BAS_0001 (Doe, Jane).tiff", "a/BAS/BAS_0002.tiff")
    assert not re.fullmatch(SOURCE.image_id, first.image_id)


def test_real_files_have_stated_frame_and_crop(shared: Path, tmp_path: Path) -> None:
    archive = open_archive(shared / "data/matek_lmu_mini", tmp_path)
    entries = list(SOURCE.walk(archive))
    assert len(entries) == 29
    for entry in entries[:5]:
        pixels = decode_rgb(archive.read(entry.member), entry.member)
        assert (pixels.shape[1], pixels.shape[0]) in SOURCE.frame_px
        assert crop_um(pixels, SOURCE.um_per_px or 0).shape == (345, 345, 3)


def test_another_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not AML-Cytomorphology_LMU.*found images/neutrophil"):
        walk(tmp_path, "images/neutrophil/BloodImage_1.jpg")
