"""WBC_1 and WBC_2: which files belong to them, and whether the owner's tables match."""

import csv
import pickle
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

import dataset_scripts
from hf_wbc.data.archive import open_archive
from hf_wbc.preparation.source import UNLABELED_CODE, ArchiveSpec, Entry, label_id
from hf_wbc.taxonomy import NAMES, class_id

HEADER = ("Image", "file", "label", "dataset", "set", "mean1", "mean2", "mean3")
IMAGES = ("0.TIF", "7.TIF", "1650.TIF")
CLASSES = ("myelocyte", "basophil", "myelocyte")


def archive(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def table(path: Path, rows: Iterable[Iterable[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def metadata(path: Path, *rows: tuple[str, str, str, str]) -> Path:
    """Write rows of Image, file, label, and dataset."""
    return table(path, [HEADER, *((*row, "train", 0.5, 0.4, 0.5) for row in rows)])


def walk(source: ArchiveSpec, folder: Path) -> list[Entry]:
    return list(source.walk(open_archive(folder, folder / "scratch")))


@pytest.fixture
def wbc_1(tmp_path: Path) -> Path:
    return archive(tmp_path / "archive", *(f"WBC1/DATA-VAL/{image}" for image in IMAGES))


def labeled(tmp_path: Path, rows: Iterable[Iterable[object]]) -> ArchiveSpec:
    labels = table(tmp_path / "labels.csv", [("Image", "Label", "LabelID"), *rows])
    return dataset_scripts.load("wbc_1", labels=labels)


RIGHT = [(image, cell, class_id(cell)) for image, cell in zip(IMAGES, CLASSES, strict=True)]


def test_sets_have_stated_sizes_and_are_never_published() -> None:
    for name, number in (("wbc_1", 1591), ("wbc_2", 1586)):
        source = dataset_scripts.load(name)
        assert source.num_images == number == sum(source.archive_counts.values())
        assert not source.redistributable and source.license == "other"
        assert "never publish" in source.notes[0]


def test_images_are_unlabeled_without_a_table(wbc_1: Path) -> None:
    source = dataset_scripts.load("wbc_1")
    entries = walk(source, wbc_1)
    assert [entry.image_id for entry in entries] == ["0.TIF", "1650.TIF", "7.TIF"]
    assert {source.labels[entry.source_label] for entry in entries} == {UNLABELED_CODE}
    assert label_id(UNLABELED_CODE) == -1
    assert all(re.fullmatch(source.image_id, entry.image_id) for entry in entries)


def test_repeated_numbers_are_distinguished_by_folder(tmp_path: Path) -> None:
    both = archive(tmp_path, "Datasets/WBC1/DATA-VAL/7.TIF", "Datasets/WBC2/DATA-TEST/7.tif")
    for name, member in (("wbc_1", "WBC1/DATA-VAL/7.TIF"), ("wbc_2", "WBC2/DATA-TEST/7.tif")):
        (entry,) = walk(dataset_scripts.load(name), both)
        assert (entry.image_id, entry.member) == ("7.TIF", f"Datasets/{member}")


def test_labels_of_the_owner_reach_their_images(tmp_path: Path, wbc_1: Path) -> None:
    source = pickle.loads(pickle.dumps(labeled(tmp_path, RIGHT)))
    assert {e.image_id: e.source_label for e in walk(source, wbc_1)} == dict(
        zip(IMAGES, CLASSES, strict=True)
    )
    assert set(source.labels) == set(NAMES)
    assert not source.archive_counts and source.num_images == 1591


def test_table_with_bom_and_without_ids_is_read(tmp_path: Path, wbc_1: Path) -> None:
    text = "Image,Label\r\n" + "".join(f"{image},{cell}\r\n" for image, cell, _ in RIGHT)
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    source = dataset_scripts.load("wbc_1", labels=tmp_path / "labels.csv")
    assert len(walk(source, wbc_1)) == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (RIGHT[:2], r"does not list 1650\.TIF; use a table and a folder that match"),
        ([*RIGHT, ("8.TIF", "monocyte", 9)], r"lists missing images: 8\.TIF"),
        ([*RIGHT, RIGHT[0]], r"labels\.csv, line 5: 0\.TIF already has a label"),
        ([*RIGHT[:2], ("1650.TIF", "myelocite", 5)], r"line 4: unknown class 'myelocite'; did you"),
        ([*RIGHT[:2], ("1650.TIF", "myelocyte", 6)], r"the LabelID of myelocyte is 5, not '6'"),
        ([*RIGHT[:2], ("1650.TIF", "myelocyte")], r"line 4: 2 cells in a table of 3 columns"),
        ([], r"labels\.csv contains no labels"),
    ],
)
def test_invalid_label_table_is_an_error(
    tmp_path: Path, wbc_1: Path, rows: list[tuple[object, ...]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        walk(labeled(tmp_path, rows), wbc_1)


def test_table_with_other_columns_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("Image;Label;LabelID\n0.TIF;basophil;0\n")
    with pytest.raises(ValueError, match="no column Image, Label; its columns are Image;Label;"):
        dataset_scripts.load("wbc_1", labels=tmp_path / "labels.csv")


def test_table_in_another_encoding_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("Image,Label\nZürich.TIF,basophil\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels\.csv is not UTF-8 text \(byte 13\)"):
        dataset_scripts.load("wbc_1", labels=tmp_path / "labels.csv")


ACE = ("BA_1.jpg", "Datasets/Acevedo_20/basophil/BA_1.jpg", "basophil", "Ace_20")
OWN = [(image, f"Datasets/WBC1/DATA-VAL/{image}", "DATA-VAL", "WBC1") for image in IMAGES]


def test_matching_metadata_is_accepted(wbc_1: Path) -> None:
    metadata(wbc_1 / "metadata.csv", ACE, *OWN)
    assert len(walk(dataset_scripts.load("wbc_1"), wbc_1)) == 3


def test_unrelated_metadata_csv_is_ignored(wbc_1: Path) -> None:
    (wbc_1 / "metadata.csv").write_text("file,diagnosis\n0.TIF,AML\n")
    assert len(walk(dataset_scripts.load("wbc_1"), wbc_1)) == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (OWN[1:], r"metadata\.csv does not list 0\.TIF"),
        (
            [*OWN, ("9.TIF", "WBC1/DATA-VAL/9.TIF", "DATA-VAL", "WBC1")],
            r"lists missing images: 9\.TIF",
        ),
        ([*OWN, OWN[0]], r"line 5: 0\.TIF of WBC1 occurs twice"),
        (
            [*OWN[:2], ("1650.TIF", "WBC1/DATA-VAL/165.TIF", "DATA-VAL", "WBC1")],
            r"line 4: Image is 1650\.TIF, but file is WBC1/DATA-VAL/165\.TIF",
        ),
        (
            [("BA_1.jpg", "a\\BA_1.jpg", "basophile", "Ace_20"), *OWN],
            r"line 2: unknown class 'basophile'; did you mean 'basophil'",
        ),
        (
            [(*ACE[:3], "Acevedo"), *OWN],
            r"line 2: unknown dataset 'Acevedo'; choose from Ace_20, Mat_19",
        ),
    ],
)
def test_metadata_contradicting_the_files_is_an_error(
    wbc_1: Path, rows: list[tuple[str, str, str, str]], message: str
) -> None:
    metadata(wbc_1 / "metadata.csv", *rows)
    with pytest.raises(ValueError, match=message):
        walk(dataset_scripts.load("wbc_1"), wbc_1)


def test_metadata_with_labels_is_a_label_table(tmp_path: Path, wbc_1: Path) -> None:
    rows = [(image, file, cell, dataset) for (image, file, _, dataset), cell in
            zip(OWN, CLASSES, strict=True)]  # fmt: skip
    path = metadata(tmp_path / "metadata.csv", ACE, *rows)
    entries = walk(dataset_scripts.load("wbc_1", labels=path), wbc_1)
    assert {e.image_id: e.source_label for e in entries} == dict(zip(IMAGES, CLASSES, strict=True))


def test_metadata_without_labels_is_not_a_label_table(tmp_path: Path) -> None:
    path = metadata(tmp_path / "metadata.csv", ACE, *OWN)
    with pytest.raises(ValueError, match="no labels for 3 of its 3 images of WBC1: the challenge"):
        dataset_scripts.load("wbc_1", labels=path)


def test_conflicting_label_tables_are_an_error(tmp_path: Path, wbc_1: Path) -> None:
    image, file, _, dataset = OWN[0]
    metadata(wbc_1 / "metadata.csv", (image, file, "monocyte", dataset), *OWN[1:])
    with pytest.raises(ValueError, match=r"0\.TIF is monocyte in metadata\.csv and myelocyte in"):
        walk(labeled(tmp_path, RIGHT), wbc_1)


@pytest.mark.parametrize("name", ["BAS_0001.tiff", "basophil_0001.TIF", "x/8.TIF", "Doe.TIF"])
def test_foreign_files_are_an_error(wbc_1: Path, name: str) -> None:
    archive(wbc_1, f"WBC1/DATA-VAL/{name}")
    with pytest.raises(ValueError, match=rf"contains files that are not of WBC_1.*{name}"):
        walk(dataset_scripts.load("wbc_1"), wbc_1)


def test_another_set_is_refused_by_name(wbc_1: Path) -> None:
    with pytest.raises(ValueError, match=r"not WBC_2.*DATA-VAL belongs to the source wbc_1"):
        walk(dataset_scripts.load("wbc_2"), wbc_1)


def test_folder_without_set_name_is_refused(wbc_1: Path) -> None:
    with pytest.raises(ValueError, match="give the folder that contains DATA-VAL"):
        walk(dataset_scripts.load("wbc_1"), wbc_1 / "WBC1/DATA-VAL")


def test_duplicate_set_folder_is_an_error(wbc_1: Path) -> None:
    archive(wbc_1, "copy/DATA-VAL/0.TIF")
    with pytest.raises(ValueError, match="more than once: WBC1/DATA-VAL, copy/DATA-VAL; give one"):
        walk(dataset_scripts.load("wbc_1"), wbc_1)
