"""From an archive to a folder for `datasets.load_dataset`, identical for every kind of archive."""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image

import dataset_scripts
from hf_wbc.data.schema import CONFIGS, PROVENANCE, SPLITS, row_features
from hf_wbc.preparation.build import prepare
from hf_wbc.preparation.source import ArchiveSpec, Entry, KnownFault
from hf_wbc.records import read_json
from hf_wbc.taxonomy import NAMES

Lab = Callable[..., ArchiveSpec]
Write = Callable[..., Path]
Files = Mapping[str, bytes]

WITHOUT_US = """
import json, sys
sys.modules["hf_wbc"] = sys.modules["dataset_scripts"] = None
from datasets import load_dataset
for streaming in (False, True):
    for config in {configs}:
        splits = load_dataset(sys.argv[1], config, streaming=streaming)
        sides = [[row["image"].size for row in rows] for rows in splits.values()]
        ids = sorted(row["image_id"] for rows in splits.values() for row in rows)
        names = splits["train"].features["label"].names
        print(json.dumps([streaming, config, list(splits), sides, ids, names]))
"""


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def load(folder: Path, config: str = "cropped") -> Any:
    return load_dataset(str(folder), config)


@pytest.fixture
def built(lab: Lab, write: Write, files: Files, tmp_path: Path) -> Path:
    return prepare(lab(), write(files), tmp_path / "lab_a", num_proc=1)


@pytest.mark.slow
@pytest.mark.ci
def test_folder_loads_without_hf_wbc(built: Path, files: Files) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_US.format(configs=CONFIGS), str(built)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    expected = sorted(name[3:] for name in files if "PLT" not in name)
    for line in done.stdout.splitlines():
        streaming, config, splits, sides, ids, names = json.loads(line)
        assert (splits, ids, names) == (list(SPLITS), expected, list(NAMES)), streaming
        side = [40, 32] if config == "original" else [24, 24]
        assert {tuple(size) for sizes in sides for size in sizes} == {tuple(side)}
        assert [len(sizes) for sizes in sides] == [16, 3, 6]
    assert len(done.stdout.splitlines()) == 4


def test_rows_match_the_schema(built: Path, files: Files) -> None:
    for config in CONFIGS:
        for split, rows in load(built, config).items():
            assert rows.features == row_features()
            for row in rows:
                pixels = np.asarray(row["image"])
                assert row["image"].mode == "RGB" and not row["image"].getexif()
                assert row["pixel_sha256"] == hashlib.sha256(pixels.tobytes()).hexdigest()
                assert row["source_label"] == row["image_id"].partition("_")[0], split
                assert row["domain"] == "lab_a" and row["group"] is None
            raw = rows.with_format("arrow")[:]["image"].to_pylist()
            assert all(Path(image["path"]).name == image["path"] for image in raw)


def test_cropped_config_is_the_default(built: Path) -> None:
    assert load_dataset(str(built))["test"][0]["image"].size == (24, 24)


def test_splits_are_stratified(built: Path) -> None:
    counts = {split: Counter(rows["label"]) for split, rows in load(built).items()}
    assert [counts[split][0] for split in SPLITS] == [7, 1, 2]
    assert [counts[split][1] for split in SPLITS] == [8, 1, 3]
    assert [counts[split][5] for split in SPLITS] == [1, 1, 1]
    assert read_json(built / PROVENANCE)["num_rows"] == {"train": 16, "validation": 3, "test": 6}


def split_of(folder: Path) -> dict[str, str]:
    return {i: split for split, rows in load(folder).items() for i in rows["image_id"]}


def test_groups_and_duplicates_stay_in_one_split(
    lab: Lab, write: Write, files: Files, tmp_path: Path, two_labels: Callable[..., KnownFault]
) -> None:
    copied = {"BA/BA_03.png": "BA/BA_08.png", "EO/EO_01.png": "MY/MY_02.png"}
    changed = {**files, **{copy: files[name] for copy, name in copied.items()}}
    walk = lab().walk

    def grouped(archive):  # type: ignore[no-untyped-def]
        for entry in walk(archive):
            number = int(entry.image_id[3:5]) if entry.source_label == "EO" else 0
            group = f"p{number % 6}" if entry.source_label == "EO" else None
            yield Entry(entry.member, entry.image_id, entry.source_label, group)

    source = lab(walk=grouped, faults=(two_labels("EO_01.png", "MY_02.png"),))
    archive = write(changed)
    for seed in range(4):
        folder = prepare(source, archive, tmp_path / f"{seed}", num_proc=1, seed=seed)
        split = split_of(folder)
        assert split["BA_03.png"] == split["BA_08.png"]
        assert all(split[f"EO_{n:02}.png"] == split[f"EO_{n + 6:02}.png"] for n in range(6))
        assert split["EO_01.png"] == split["MY_02.png"] == "train"
        made = read_json(folder / PROVENANCE)
        assert made["identical"] == [["BA_03.png", "BA_08.png"], ["EO_01.png", "MY_02.png"]]
        assert made["train_only"] == ["EO_01.png", "MY_02.png"]
    assert split_of(tmp_path / "0") != split_of(tmp_path / "1")


def pack(files: Files, path: Path) -> Path:
    """Pack the files, in another order, as a zip or a tar compressed according to its suffix."""
    names = sorted(files, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name in names:
                zipped.writestr(f"lab_a/{name}", files[name])
        return path
    folder = path.with_suffix(".unpacked")
    with tarfile.open(path, f"w:{path.suffix[1:].replace('tar', '')}") as tarred:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(files[name])
            tarred.add(folder / name, f"lab_a/{name}")
    return path


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz"])
def test_every_archive_kind_gives_same_rows(
    built: Path, lab: Lab, files: Files, tmp_path: Path, kind: str
) -> None:
    other = prepare(lab(), pack(files, tmp_path / kind), tmp_path / "other", num_proc=1)
    first, second = digests(built), digests(other)
    assert first.pop(PROVENANCE) != second.pop(PROVENANCE)  # it names the archive
    assert first == second
    assert [path.name for path in tmp_path.glob("*.partial")] == []


def test_two_processes_write_same_bytes(built: Path, lab: Lab, tmp_path: Path) -> None:
    two = prepare(lab(), tmp_path / "archive", tmp_path / "two", num_proc=2)
    assert digests(two) == digests(built)


def test_finished_folder_is_left_alone(built: Path, lab: Lab, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    seen: list[str] = []
    again = prepare(
        lab(),
        tmp_path / "archive",
        built,
        num_proc=1,
        on_progress=lambda stage, *_: seen.append(stage),
    )
    assert again == built and not seen
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before
    assert not built.with_name("lab_a.partial").exists()


def test_changed_notes_do_not_cause_a_rebuild(built: Path, lab: Lab, tmp_path: Path) -> None:
    before = digests(built)
    assert prepare(lab(notes=("All is drawn.",)), tmp_path / "archive", built, num_proc=1) == built
    assert digests(built) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"subset": True}, "subset"),
        ({"skip_bad": True}, "skip_bad"),
        ({"um_per_px": 25 / 20}, "source"),
        ({"touch": "BA/BA_00.png"}, "archive"),
        ({"more": "PLT/PLT_07.png", "subset": True}, "archive, entries, subset"),
    ],
)
def test_different_build_into_finished_folder_is_refused(
    built: Path, lab: Lab, tmp_path: Path, png: Callable[..., bytes], change: Any, named: str
) -> None:
    archive, before = tmp_path / "archive", digests(built)
    facts = {key: change.pop(key) for key in ("um_per_px",) if key in change}
    if name := change.pop("touch", None):
        os.utime(archive / name, ns=(0, 0))
    if name := change.pop("more", None):
        (archive / name).write_bytes(png(99))
    with pytest.raises(
        ValueError, match=f"lab_a was built with a different {named}; choose another"
    ):
        prepare(lab(**facts), archive, built, num_proc=1, **change)
    assert digests(built) == before
    assert not built.with_name("lab_a.partial").exists()


def test_progress_is_reported_in_images(
    lab: Lab, write: Write, files: Files, tmp_path: Path
) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    prepare(
        lab(), write(files), tmp_path / "out", num_proc=1,
        on_progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total)),
    )  # fmt: skip
    assert list(seen) == ["scan", "compare", "write"]
    assert all(calls[-1] == (25, 25) for calls in seen.values())


def test_single_image_dataset_has_one_split(
    lab: Lab, write: Write, png: Any, tmp_path: Path
) -> None:
    archive = write({"BA/BA_1.png": png(1)})
    folder = prepare(lab(), archive, tmp_path / "one", num_proc=1, subset=True)
    for config in CONFIGS:
        assert {split: len(rows) for split, rows in load(folder, config).items()} == {"train": 1}


def test_rebuilt_rows_are_not_read_from_stale_cache(
    built: Path, lab: Lab, files: Files, png: Any, tmp_path: Path
) -> None:
    before = load(built)["train"]["pixel_sha256"]
    archive = tmp_path / "archive"
    for seed, name in enumerate(files):
        (archive / name).write_bytes(png(1000 + seed))
    for path in sorted(built.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    prepare(lab(), archive, built, num_proc=1)
    assert set(load(built)["train"]["pixel_sha256"]).isdisjoint(before)


def test_real_matek_files_are_prepared(shared: Path, tmp_path: Path) -> None:
    source = dataset_scripts.load("matek_19")
    archive = shared / "data" / "matek_lmu_mini"
    folder = prepare(source, archive, tmp_path / "matek_19", num_proc=1, subset=True)
    splits = load(folder)
    assert sum(len(rows) for rows in splits.values()) == 29
    assert {row["image"].size for rows in splits.values() for row in rows} == {(345, 345)}
    row = load(folder, "original")["test"][0]
    with Image.open(next(archive.rglob(row["image_id"]))) as original:
        assert original.mode == "RGBA"
        assert np.array_equal(np.asarray(original)[..., :3], np.asarray(row["image"]))
    assert "> **Subset.**" in (folder / "README.md").read_text()
    with pytest.raises(ValueError, match=r"BAS 2 instead of 79; .*LYT 4 instead of 3,937"):
        prepare(source, archive, tmp_path / "whole", num_proc=1)
