"""Invalid input: every fault is named, the error states the remedy, and no output remains."""

import io
import os
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from datasets import load_dataset
from PIL import Image

import dataset_scripts
from hf_wbc.data.image_io import ImageFault
from hf_wbc.data.schema import PROVENANCE
from hf_wbc.preparation import scan, work_folder
from hf_wbc.preparation.build import prepare
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.records import read_json

Lab = Callable[..., ArchiveSpec]
Write = Callable[..., Path]
Files = Mapping[str, bytes]


def encoded(mode: str, kind: str, **save: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (40, 32)).save(buffer, kind, **save)
    return buffer.getvalue()


def bomb() -> bytes:
    """Build a PNG whose header claims 100,000 x 100,000 px."""
    data = bytearray(encoded("RGB", "PNG"))
    data[16:24] = (10**5).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


BAD: dict[str, tuple[bytes, str]] = {
    "BA_00.png": (b"", "zero bytes"),
    "BA_01.png": (encoded("RGB", "PNG")[:70], "truncated"),
    "BA_02.png": (bomb(), "too large to be a cell"),
    "BA_03.png": (encoded("I;16", "PNG"), "16 bits per channel"),
    "BA_04.png": (encoded("CMYK", "JPEG"), "CMYK"),
    "BA_05.png": (encoded("L", "PNG"), "grey"),
    "BA_06.png": (encoded("P", "PNG"), "palette"),
    "BA_07.png": (
        encoded("RGB", "PNG", save_all=True, append_images=[Image.new("RGB", (40, 32), "red")]),
        "animated",
    ),
    "EO_00.png": (b"<!DOCTYPE html> not found", "a web page"),
    "EO_01.png": (encoded("RGB", "JPEG")[:-30], "truncated"),
}


def assert_nothing_left(out: Path) -> None:
    assert not out.exists() and not out.with_name(f"{out.name}.partial").exists()


def test_every_bad_image_is_named_and_nothing_is_left(
    lab: Lab, write: Write, files: Files, tmp_path: Path
) -> None:
    archive = write({**files, **{f"{n[:2]}/{n}": data for n, (data, _) in BAD.items()}})
    with pytest.raises(ValueError, match="10 of 25 images are bad") as error:
        prepare(lab(), archive, tmp_path / "out", num_proc=1)
    for line, (name, (_, what)) in zip(
        str(error.value).splitlines()[1:], sorted(BAD.items()), strict=True
    ):
        assert line.strip().startswith(f"{name[:2]}/{name}: ") and what in line
        assert "--skip-bad" in line
    assert_nothing_left(tmp_path / "out")


def test_faults_that_pass_are_not_kept(
    lab: Lab, write: Write, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, out = write(files), tmp_path / "out"
    out.with_name("out.partial").mkdir()  # of an interrupted build, so a mistake deletes nothing

    def fail(*_: object) -> None:
        raise ImageFault("EO/EO_00.png: needs an extra")

    with monkeypatch.context() as broken, pytest.raises(ValueError, match="25 of 25 images are"):
        broken.setattr(scan, "decode_rgb", fail)
        prepare(lab(), archive, out, num_proc=1)
    assert prepare(lab(), archive, out, num_proc=1) == out


def test_skip_bad_continues_and_card_lists_bad_images(
    lab: Lab, write: Write, files: Files, tmp_path: Path
) -> None:
    archive = write({**files, **{f"{n[:2]}/{n}": data for n, (data, _) in BAD.items()}})
    folder = prepare(lab(), archive, tmp_path / "out", num_proc=1, skip_bad=True)
    assert sum(map(len, load_dataset(str(folder)).values())) == 15
    card = (folder / "README.md").read_text()
    assert "> **Incomplete.** 10 bad images were left out" in card
    for name, (_, what) in BAD.items():
        (line,) = [line for line in card.splitlines() if f"{name[:2]}/{name}" in line]
        assert line.startswith("- a bad image: ") and what in line
    assert set(read_json(folder / PROVENANCE)["bad"]) == set(BAD)


def test_skip_bad_does_not_hide_missing_images(
    lab: Lab, write: Write, files: Files, tmp_path: Path
) -> None:
    archive = write({name: data for name, data in files.items() if name != "MY/MY_00.png"})
    with pytest.raises(ValueError, match=r"MY 2 instead of 3"):
        prepare(lab(), archive, tmp_path / "out", num_proc=1, skip_bad=True)


def test_damaged_zip_member_is_reported_without_archive_location(
    lab: Lab, files: Files, tmp_path: Path
) -> None:
    archive = tmp_path / "home_of_jane" / "lab.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as zipped:
        for name, data in files.items():
            zipped.writestr(name, data)
    at = archive.read_bytes().index(files["BA/BA_04.png"]) + 60
    with archive.open("r+b") as file:
        file.seek(at)
        file.write(b"damage")
    with pytest.raises(ValueError, match=r"BA/BA_04\.png: is truncated or damaged .*--skip-bad"):
        prepare(lab(), archive, tmp_path / "out", num_proc=1)
    folder = prepare(lab(), archive, tmp_path / "out", num_proc=1, skip_bad=True)
    for name in ("README.md", PROVENANCE):
        assert "BA_04.png" in (folder / name).read_text()
        assert "jane" not in (folder / name).read_text()


def zipped(path: Path, files: Files) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in files.items():
            file.writestr(name, data)
    return path


def test_unreadable_archives_are_refused_and_nothing_is_left(
    lab: Lab, files: Files, tmp_path: Path
) -> None:
    whole = zipped(tmp_path / "whole.zip", files).read_bytes()
    encrypted = bytearray(whole)
    encrypted[encrypted.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "locked.zip").write_bytes(encrypted)
    zipped(tmp_path / "climbing.zip", {**files, "../../BA_1.png": b""})
    with tarfile.open(tmp_path / "cut.tar.gz", "w:gz") as file:
        file.add(tmp_path / "whole.zip", "BA_1.png")
    os.truncate(tmp_path / "cut.tar.gz", 5000)
    for name, words in {
        "missing.zip": "no archive at",
        "cut.zip": "truncated or damaged",
        "locked.zip": "is encrypted; decrypt",
        "climbing.zip": r"\.\./\.\./BA_1\.png points outside the archive",
        "cut.tar.gz": "truncated or damaged",
    }.items():
        with pytest.raises(ValueError, match=words) as error:
            prepare(lab(), tmp_path / name, tmp_path / "new" / "out", num_proc=1)
        assert name in str(error.value)
        assert not (tmp_path / "new").exists()


def test_archive_of_another_dataset_is_refused(write: Write, files: Files, tmp_path: Path) -> None:
    for name in ("acevedo_20", "matek_19"):
        source = dataset_scripts.load(name)
        for subset in (False, True):
            with pytest.raises(ValueError, match="this is not "):
                prepare(source, write(files), tmp_path / "out", num_proc=1, subset=subset)
            assert_nothing_left(tmp_path / "out")


def test_undeclared_pair_with_two_labels_is_refused(
    lab: Lab, write: Write, files: Files, tmp_path: Path
) -> None:
    archive = write({**files, "EO/EO_03.png": files["BA/BA_06.png"]})
    with pytest.raises(
        ValueError, match=r"BA/BA_06\.png: labeled BA, but has the same pixels as EO_03\.png"
    ):
        prepare(lab(), archive, tmp_path / "out", num_proc=1)
    folder = prepare(lab(), archive, tmp_path / "out", num_proc=1, skip_bad=True)
    assert set(read_json(folder / PROVENANCE)["bad"]) == {"BA_06.png", "EO_03.png"}


def test_zero_processes_and_output_inside_archive_are_refused(
    lab: Lab, write: Write, files: Files, tmp_path: Path
) -> None:
    archive = write(files)
    with pytest.raises(ValueError, match="--num-proc is 0; give 1 or more"):
        prepare(lab(), archive, tmp_path / "out", num_proc=0)
    with pytest.raises(ValueError, match="is inside the archive"):
        prepare(lab(), archive, archive / "out", num_proc=1)
    assert {path.name for path in archive.iterdir()} == {"BA", "EO", "MY", "PLT"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a 300 kB disk; skip if mounting is not possible."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(path)]
    if (
        os.getuid()
        or not shutil.which("mount")
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("only root can mount a small disk")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("num_proc", [1, 2])
@pytest.mark.slow
@pytest.mark.ci
def test_full_disk_is_reported_and_build_resumes(
    lab: Lab, write: Write, png: Any, disk: Path, monkeypatch: pytest.MonkeyPatch,
    num_proc: int,
) -> None:  # fmt: skip
    names = [f"{code}/{code}_{number:02}.png" for code in ("BA", "EO") for number in range(20)]
    archive = write({name: png(seed, size=(60, 50)) for seed, name in enumerate(names)})
    expected = prepare(lab(), archive, archive.with_name("out"), num_proc=1, subset=True)
    with pytest.raises(OSError, match="MB are needed and 0 MB are free; free some space"):
        prepare(lab(), archive, disk / "out", num_proc=num_proc, subset=True)
    with monkeypatch.context() as patch:
        endless = SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=10**12))
        patch.setattr(work_folder, "shutil", endless)
        with pytest.raises(OSError, match="No space left on device; free some space and run"):
            prepare(lab(), archive, disk / "out", num_proc=num_proc, subset=True)
    assert not (disk / "out").exists()
    subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
    seen: list[str] = []
    folder = prepare(
        lab(), archive, disk / "out", num_proc=num_proc, subset=True,
        on_progress=lambda stage, *_: seen.append(stage),
    )  # fmt: skip
    assert "scan" not in seen  # already done
    for path in expected.rglob("*.*"):
        assert (folder / path.relative_to(expected)).read_bytes() == path.read_bytes()
    assert [path.name for path in disk.iterdir()] == ["out"]


def test_known_faults_of_acevedo_are_handled(shared: Path, tmp_path: Path) -> None:
    source = dataset_scripts.load("acevedo_20")
    quirks = shared / "data" / "pbc_quirks"
    folder = prepare(source, quirks, tmp_path / "out", num_proc=1, subset=True)
    made = read_json(folder / PROVENANCE)
    assert made["skipped"] == [".DS_169665.jpg"]
    assert made["train_only"] == ["BNE_191112.jpg", "EO_225902.jpg"]
    assert ["BNE_191112.jpg", "EO_225902.jpg"] in made["identical"]
    for rows in load_dataset(str(folder), "original").values():
        for row in rows:
            path = next(quirks.rglob(row["image_id"]))
            assert np.array_equal(np.asarray(row["image"]), np.asarray(Image.open(path)))
    copy = tmp_path / "copy"
    shutil.copytree(quirks, copy)
    (copy / "neutrophil" / ".DS_169665.jpg").rename(copy / "neutrophil" / "BNE_169665.jpg")
    with pytest.raises(ValueError, match=r"neutrophil/BNE_169665\.jpg: no image"):
        prepare(source, copy, tmp_path / "renamed", num_proc=1, subset=True)
