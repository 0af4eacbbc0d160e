"""Acevedo_20: the class matrix, the declared faults, and the real files."""

import hashlib
import io
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

import dataset_scripts
from hf_wbc.data.archive import open_archive

SOURCE = dataset_scripts.load("acevedo_20")


def test_class_matrix_has_expected_sums() -> None:
    assert sum(SOURCE.used_counts.values()) == 14_291
    assert sum(SOURCE.archive_counts.values()) == 17_092
    inside = [SOURCE.archive_counts[code] for code, cell in SOURCE.labels.items() if cell]
    assert sum(inside) == 14_543
    assert "myeloblast" not in SOURCE.used_counts


def test_overlapping_code_prefixes_are_distinguished() -> None:
    """MY is a substring of MMY and PMY."""
    labels = SOURCE.labels
    assert (labels["MY"], labels["MMY"], labels["PMY"]) == (
        "myelocyte",
        "metamyelocyte",
        "promyelocyte",
    )


def test_renamed_copies_are_the_same_archive(tmp_path: Path) -> None:
    for number, names in enumerate(
        (
            ["PBC_dataset_normal_DIB/ig/PMY_1.jpg", "PBC_dataset_normal_DIB/monocyte/MO_22.jpg"],
            ["IG/pmy_1.JPG", "Monocyte/mo_22.Jpg"],
        )
    ):
        for name in names:
            path = tmp_path / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        entries = list(SOURCE.walk(open_archive(tmp_path / str(number), tmp_path / "scratch")))
        assert [(e.image_id, e.source_label) for e in entries] == [
            ("MO_22.jpg", "MO"),
            ("PMY_1.jpg", "PMY"),
        ]


def test_declared_faults_match_the_archive(shared: Path, tmp_path: Path) -> None:
    root = shared / "data/pbc_quirks"
    archive = open_archive(root, tmp_path)
    entries = {entry.image_id: entry for entry in SOURCE.walk(archive)}
    assert len(entries) == 35
    same: dict[bytes, set[str]] = {}
    for entry in entries.values():
        same.setdefault(archive.read(entry.member), set()).add(entry.image_id)
    two_labels = [
        ids for ids in same.values() if len({SOURCE.labels.get(i.split("_")[0]) for i in ids}) > 1
    ]
    declared = {fault.kind: fault for fault in SOURCE.faults}
    assert two_labels == [set(declared["two_labels"].image_ids)]
    assert declared["two_labels"].action == "train_only"
    assert declared["not_an_image"].image_ids == (".DS_169665.jpg",)
    assert [i for i in entries if not re.fullmatch(SOURCE.image_id, i)] == [".DS_169665.jpg"]


def test_real_files_are_walked_by_their_codes(shared: Path, tmp_path: Path) -> None:
    archive = open_archive(shared / "data/pbc_barcelona_a", tmp_path)
    entries = list(SOURCE.walk(archive))
    assert len(entries) == sum(name.endswith(".jpg") for name in archive.names)
    assert set(Counter(entry.source_label for entry in entries)) <= set(SOURCE.labels)
    assert all(re.fullmatch(SOURCE.image_id, entry.image_id) for entry in entries)


def test_complete_archive_matches_stated_counts(tmp_path: Path) -> None:
    """14,291 images of the eleven classes are 360x363 px; these are the challenge's."""
    if "HF_WBC_ACEVEDO_20" not in os.environ:
        pytest.skip("HF_WBC_ACEVEDO_20 does not say where the full archive lies")
    archive = open_archive(Path(os.environ["HF_WBC_ACEVEDO_20"]), tmp_path)
    counts: Counter[str] = Counter()
    used: Counter[str] = Counter()
    image_ids = []
    for entry in SOURCE.walk(archive):
        if (fault := SOURCE.fault_of(entry.image_id)) and fault.action == "skip":
            continue
        assert re.fullmatch(SOURCE.image_id, entry.image_id)
        counts[entry.source_label] += 1
        cell = SOURCE.labels[entry.source_label]
        size = Image.open(io.BytesIO(archive.read(entry.member))).size
        if cell and size in SOURCE.frame_px:
            used[cell] += 1
            image_ids.append(entry.image_id)
    assert counts == SOURCE.archive_counts
    assert used == SOURCE.used_counts
    assert image_ids == sorted(image_ids)
    assert hashlib.sha256("\n".join(image_ids).encode()).hexdigest() == SOURCE.names_sha256
