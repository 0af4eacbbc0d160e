"""Archives of every kind yield the same files, and everything else is rejected clearly."""

import io
import multiprocessing
import os
import pickle
import stat
import tarfile
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hf_wbc.data import archive as archive_module
from hf_wbc.data.archive import Archive, open_archive

FILES = {
    "PBC/basophil/BA_1.jpg": b"one",
    "PBC/basophil/BA_2.jpg": b"two" * 700,
    "PBC/neutrophil/.DS_169665.jpg": b"hidden",
    "PBC/読む.txt": b"",
}
JUNK = {
    "PBC/.DS_Store": b"x",
    "PBC/basophil/._BA_1.jpg": b"x",
    "__MACOSX/PBC/basophil/BA_1.jpg": b"x",
    "PBC/Thumbs.db": b"x",
}
KINDS = ("folder", "zip", "tar", "tar.gz", "tar.bz2", "tar.xz")


def write(path: Path, kind: str, files: dict[str, bytes]) -> Path:
    path = path / f"archive.{kind}"
    if kind == "folder":
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.mkdir("PBC")
            for name, data in files.items():
                file.writestr(name, data)
    else:
        with tarfile.open(path, f"w:{kind.partition('.')[2]}") as file:
            for name, data in files.items():
                add(file, name, data)
    return path


def add(file: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, "PBC/basophil/BA_1.jpg"
    file.addfile(info, io.BytesIO(data))


def read_all(archive: Archive) -> dict[str, bytes]:
    return {name: archive.read(name) for name in archive.names}


def same_in_child(archive: Archive, times: int) -> bool:
    return all(read_all(archive) == FILES for _ in range(times))


@pytest.fixture(params=KINDS)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Archive:
    path = write(tmp_path, request.param, {**FILES, **JUNK})
    return open_archive(path, tmp_path / "scratch")


def test_every_kind_yields_same_files_without_junk(archive: Archive) -> None:
    assert archive.names == tuple(sorted(FILES))
    assert read_all(archive) == FILES


def test_pickled_archive_is_readable(archive: Archive) -> None:
    read_all(archive)
    copy = pickle.loads(pickle.dumps(archive))
    assert (copy.names, copy.digest) == (archive.names, archive.digest)
    assert read_all(copy) == FILES


def test_forked_readers_do_not_interfere(archive: Archive) -> None:
    read_all(archive)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        answers = pool.starmap_async(same_in_child, [(archive, 50)] * 2)
        assert same_in_child(archive, 50)
        assert answers.get(60) == [True, True]


def test_unknown_name_is_an_error(archive: Archive) -> None:
    with pytest.raises(ValueError, match=r"holds no file 'nope\.jpg'"):
        archive.read("nope.jpg")


@pytest.mark.parametrize("kind", KINDS)
def test_digest_depends_on_content(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, FILES)
    scratch = tmp_path / "scratch"
    first = open_archive(path, scratch).digest
    assert open_archive(path, scratch).digest == first
    write(tmp_path, kind, {**FILES, "PBC/basophil/BA_1.jpg": b"uno"})
    os.utime(path, ns=(0, 10**18))
    assert open_archive(path, scratch).digest != first


@pytest.mark.parametrize("kind", KINDS)
def test_archive_without_files_is_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, JUNK)
    with pytest.raises(ValueError, match="holds no files"):
        open_archive(path, tmp_path / "scratch")


@pytest.mark.parametrize("kind", KINDS)
def test_oversized_member_is_not_read(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "MAX_MEMBER_BYTES", 1000)
    archive = open_archive(write(tmp_path, kind, FILES), tmp_path / "scratch")
    with pytest.raises(ValueError, match=r"BA_2\.jpg unpacks to 2,100 bytes"):
        archive.read("PBC/basophil/BA_2.jpg")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no archive at"), (b"", "is empty"), (b"Rar!\x1a\7\1\0" * 200, "not an archive")],
)
def test_non_archive_is_reported_by_name(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "cells.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        open_archive(path, tmp_path)
    assert "cells.zip" in str(error.value)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_truncated_archive_is_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, FILES)
    whole = path.read_bytes()
    end = len(whole) if kind == "zip" else len(whole.rstrip(b"\0")) // 512 * 512 + 2 * 512
    for length in range(4, end, 31 if kind == "zip" else 100):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"truncated or damaged|not an archive"):
            open_archive(path, tmp_path)


def test_tar_with_damaged_header_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "tar", FILES)
    whole = bytearray(path.read_bytes())
    whole[whole.index(b"PBC/basophil/BA_2.jpg") + 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="truncated or damaged"):
        open_archive(path, tmp_path)


def test_damaged_zip_data_is_reported_by_file(tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("BA_1.jpg", b"some bytes")
    path.write_bytes(path.read_bytes().replace(b"some bytes", b"some bites"))
    with pytest.raises(ValueError, match=r"archive\.zip.*BA_1\.jpg.*CRC"):
        open_archive(path, tmp_path).read("BA_1.jpg")


def test_file_changed_after_listing_is_an_error(tmp_path: Path) -> None:
    archive = open_archive(write(tmp_path, "folder", FILES), tmp_path)
    (archive.path / "PBC/basophil/BA_1.jpg").write_bytes(b"longer than before")
    with pytest.raises(ValueError, match="has 18 bytes instead of 3"):
        archive.read("PBC/basophil/BA_1.jpg")
    (archive.path / "PBC/basophil/BA_1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"BA_1\.jpg"):
        archive.read("PBC/basophil/BA_1.jpg")


@pytest.mark.parametrize(
    ("local", "central", "value", "message"),
    [(6, 8, 1, "is encrypted; decrypt"), (8, 10, 9, "by method 9.*give the folder")],
)
def test_zip_requiring_another_program_is_refused(
    tmp_path: Path, local: int, central: int, value: int, message: str
) -> None:
    path = write(tmp_path, "zip", {"BA_1.jpg": b"one"})
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\3\4") + local] = data[data.rindex(b"PK\1\2") + central] = value
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"BA_1\.jpg .*{message}"):
        open_archive(path, tmp_path)


def test_backslashes_in_zip_separate_folders(tmp_path: Path) -> None:
    path = write(tmp_path, "zip", {"PBC\\basophil\\BA_1.jpg": b"one"})
    archive = open_archive(path, tmp_path)
    assert read_all(archive) == {"PBC/basophil/BA_1.jpg": b"one"}


def test_leading_dot_in_tar_is_ignored(tmp_path: Path) -> None:
    archive = open_archive(write(tmp_path, "tar", {"./PBC/BA_1.jpg": b"one"}), tmp_path)
    assert read_all(archive) == {"PBC/BA_1.jpg": b"one"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize(
    "name", ["../BA_1.jpg", "a/../../b", "/etc/passwd", "C:/b.jpg", "C:b", "a\\..\\..\\b", "\\b"]
)
def test_path_traversal_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    path = write(tmp_path, kind, {"BA_1.jpg": b"", name: b""})
    with pytest.raises(ValueError, match="points outside the archive"):
        open_archive(path, tmp_path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(["a", "..", "b"])
@given(st.lists(st.sampled_from(["..", ".", "", "a", "b\\..", "C:", "..a", " "]), min_size=1))
def test_listed_names_stay_inside_root(tmp_path: Path, parts: list[str]) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("/".join(parts) + "/x", b"")
    try:
        names = open_archive(path, tmp_path).names
    except ValueError:
        return
    for name in names:
        assert Path(os.path.normpath(tmp_path / "root" / name)).is_relative_to(tmp_path / "root")
        assert ".." not in name.split("/")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_duplicate_names_are_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "archive"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as zipped, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zipped.writestr("BA_1.jpg", b"a")
            zipped.writestr("BA_1.jpg", b"b")
    else:
        with tarfile.open(path, "w") as tarred:
            add(tarred, "BA_1.jpg", b"a")
            add(tarred, "./BA_1.jpg", b"b")
    with pytest.raises(ValueError, match=r"BA_1\.jpg comes twice"):
        open_archive(path, tmp_path)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        add(file, "PBC/basophil/BA_1.jpg", b"one")
        add(file, "BA_2.jpg", kind=kind)
    with pytest.raises(ValueError, match=r"BA_2\.jpg is a link, a device"):
        open_archive(tmp_path / "a.tar", tmp_path)


def test_links_in_zip_are_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("BA_2.jpg")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match=r"BA_2\.jpg is a link"):
        open_archive(tmp_path / "a.zip", tmp_path)


@pytest.mark.parametrize("target", ["../secret.jpg", "nowhere.jpg", "BA_2.jpg", ".."])
def test_invalid_or_outside_link_is_refused(tmp_path: Path, target: str) -> None:
    folder = write(tmp_path, "folder", FILES)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (folder / "BA_2.jpg").symlink_to(target)
    with pytest.raises(ValueError, match=r"BA_2\.jpg (is a link|-> )"):
        open_archive(folder, tmp_path)


def test_links_inside_folder_and_linked_folder_are_followed(tmp_path: Path) -> None:
    folder = write(tmp_path, "folder", FILES)
    (folder / "BA_3.jpg").symlink_to("PBC/basophil/BA_1.jpg")
    (tmp_path / "link").symlink_to(folder)
    assert open_archive(tmp_path / "link", tmp_path).read("BA_3.jpg") == b"one"


def test_pipe_in_folder_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "folder", FILES)
    os.mkfifo(folder / "BA_2.jpg")
    with pytest.raises(ValueError, match=r"BA_2\.jpg is a device"):
        open_archive(folder, tmp_path)


def test_undecodable_name_is_skipped_and_reported(tmp_path: Path) -> None:
    folder = write(tmp_path, "folder", FILES)
    Path(os.fsdecode(os.fsencode(folder) + b"/BA_\xff.jpg")).write_bytes(b"")
    found = open_archive(folder, tmp_path)
    assert found.names == tuple(sorted(FILES))
    assert found.unreadable_names == ("BA_\udcff.jpg",)
