"""Every command lists the same files: links are followed, junk is counted, nothing else is lost."""

import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from hf_wbc.data import folder_walk
from hf_wbc.data.archive import open_archive
from hf_wbc.data.folder_walk import describe_junk, junk_kind, walk_folder
from hf_wbc.data.image_blocks import list_images

CELLS = ("basophil/a.png", "basophil/b.JPG", "lymphocyte/c.tif", "lymphocyte/day 2/d.png")
JUNK = {
    "basophil/@eaDir/a.png/SYNOFILE_THUMB_M.png": "@eaDir",
    "basophil/@EADIR/b.png": "@EADIR",
    "#recycle/a.png": "#recycle",
    "$RECYCLE.BIN/S-1-5/a.png": "$RECYCLE.BIN",
    "$Recycle.Bin/a.png": "$Recycle.Bin",
    "System Volume Information/a.png": "System Volume Information",
    "lymphocyte/.ipynb_checkpoints/c-checkpoint.png": ".ipynb_checkpoints",
    "lymphocyte/.thumbnails/c.png": "hidden folders",
    ".Trash-1000/files/c.png": "hidden folders",
    "@Recycle/c.png": "@Recycle",
    "lymphocyte/.@__thumb/c.png": ".@__thumb",
    "lost+found/#123.png": "lost+found",
    "found.000/a.png": "found.000",
    "__MACOSX/basophil/._a.png": "__MACOSX",
    "basophil/._a.png": "._*",
    "basophil/.DS_Store": ".DS_Store",
    "Thumbs.db": "Thumbs.db",
    "lymphocyte/THUMBS.DB": "THUMBS.DB",
    "Desktop.ini": "Desktop.ini",
    "basophil/DESKTOP.INI": "DESKTOP.INI",
    "lymphocyte/~$c.png": "~$*",
}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    touch(tmp_path / "cells", *CELLS)
    return tmp_path / "cells"


@pytest.mark.parametrize("name", JUNK)
def test_junk_is_recognized_in_folders_and_archives(name: str) -> None:
    assert junk_kind(name) == JUNK[name]
    assert junk_kind(f"deep/er/{name}") == JUNK[name]


@pytest.mark.parametrize("name", [*CELLS, "neutrophil/.DS_169665.jpg", "recycled cells/a.png"])
def test_cells_are_not_junk(name: str) -> None:
    assert junk_kind(name) is None


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_prepare_and_predict_list_same_cells_and_count_junk(
    root: Path, tmp_path: Path, kind: str
) -> None:
    touch(root, *JUNK)
    archive = root
    if kind != "folder":
        archive = tmp_path / f"cells.{kind}"
        files = [path for path in root.rglob("*") if path.is_file()]
        with zipfile.ZipFile(tmp_path / "cells.zip", "w") as packed:
            for path in files:
                packed.write(path, path.relative_to(root).as_posix())
        with tarfile.open(tmp_path / "cells.tar", "w") as tar:
            for path in files:
                tar.add(path, path.relative_to(root).as_posix())
    opened = open_archive(archive, tmp_path)
    images = list_images(root, None)
    assert opened.names == images.names == tuple(sorted(CELLS)) and images.skipped == ()
    for (note,) in (opened.notes, images.notes):
        assert note.startswith(f"skipped {len(JUNK)} files of other programs: ")
    assert describe_junk({"@eaDir": 2, "Thumbs.db": 1}) == (
        "skipped 3 files of other programs: 2 in @eaDir, 1 Thumbs.db"
    )


def test_links_within_root_are_followed_and_reported(root: Path, tmp_path: Path) -> None:
    (root / "again").symlink_to("lymphocyte")
    (root / "b.png").symlink_to(root / "basophil" / "a.png")
    (tmp_path / "alias").symlink_to(root)
    for images in (list_images(root, None), list_images(tmp_path / "alias", None)):
        assert images.names == (
            "again/c.tif", "again/day 2/d.png", "b.png", *sorted(CELLS)
        )  # fmt: skip
        assert images.notes == ("followed links: again -> lymphocyte, b.png -> basophil/a.png",)
    archive = open_archive(root, tmp_path)
    assert archive.names == images.names and archive.notes == images.notes
    assert archive.read("again/day 2/d.png") == b"x"


def test_link_loops_are_reported_and_not_followed(root: Path) -> None:
    (root / "lymphocyte" / "up").symlink_to("..")
    (root / "basophil" / "self").symlink_to(".")
    (root / "a.png").symlink_to("a.png")
    listing = walk_folder(root)
    assert listing.files == ("a.png", *sorted(CELLS))  # reading a.png reports the fault
    assert listing.loops == ("basophil/self -> basophil", "lymphocyte/up -> .")


def test_mutually_linked_folders_terminate(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in range(7):
        (root / str(one)).mkdir()
        for other in range(7):
            (root / str(one) / f"to{other}").symlink_to(f"../{other}")
    monkeypatch.setattr(folder_walk, "MAX_LINKS", 500)
    with pytest.raises(ValueError, match="more than 500 links to folders"):
        walk_folder(root)


def test_links_leaving_root_are_refused_or_followed_on_request(root: Path, tmp_path: Path) -> None:
    touch(tmp_path / "nas", "e.png", "f.png")
    (root / "more").symlink_to(tmp_path / "nas")
    (root / "g.png").symlink_to(tmp_path / "nas" / "e.png")
    words = rf"g\.png -> {tmp_path}/nas/e\.png, more -> {tmp_path}/nas; "
    with pytest.raises(ValueError, match=f"links leave the folder: {words}pass --follow-links"):
        list_images(root, None)
    with pytest.raises(ValueError, match="a link leaves the folder"):
        open_archive(root, tmp_path)
    images = list_images(root, None, follow_links=True)
    assert {"g.png", "more/e.png", "more/f.png"} == {*images.names} - {*CELLS}
    assert any("links that leave the folder: g.png" in note for note in images.notes)


def test_unreadable_folder_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: Path) -> "os._ScandirIterator[str]":
        if Path(path).name == "day 2":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"day 2 cannot be read \(Permission denied\)"):
        list_images(root, None)


def test_hidden_files_are_reported(root: Path, tmp_path: Path) -> None:
    touch(root, "basophil/.hidden.png")
    assert list_images(root, None).skipped == ("basophil/.hidden.png",)
    assert "basophil/.hidden.png" in open_archive(root, tmp_path).names
