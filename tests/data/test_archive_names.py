"""File names in zip and tar archives in any code page."""

import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from hf_wbc.data.archive import open_archive
from hf_wbc.data.archive_names import printable_name


def write_zip(path: Path, names: list[bytes], unicode_path: bool = False) -> Path:
    """Write a zip whose names are raw bytes without the Unicode flag, as old tools write it."""
    with zipfile.ZipFile(path, "w") as file:
        for number, name in enumerate(names):
            info = zipfile.ZipInfo("x" * len(name))
            if unicode_path:
                text = name.decode("gbk").encode()
                data = b"\1" + struct.pack("<I", zlib.crc32(name)) + text
                info.extra = struct.pack("<HH", 0x7075, len(data)) + data
            file.writestr(info, b"%d" % number)
    data = path.read_bytes()
    for name in names:
        data = data.replace(b"x" * len(name), name)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("gbk", "中性粒细胞/细胞1.png"),
        ("cp932", "好中球/細胞1.png"),
        ("cp1252", "Éosinophile/cellule1.png"),
        ("cp866", "Нейтрофил/клетка1.png"),
    ],
)
def test_local_code_page_requires_stated_encoding(encoding: str, name: str, tmp_path: Path) -> None:
    path = write_zip(tmp_path / "cells.zip", [name.encode(encoding), b"plain.png"])
    with pytest.raises(ValueError, match=r"unstated encoding.*--zip-encoding") as caught:
        open_archive(path, tmp_path)
    if encoding != "cp866":
        assert name in str(caught.value)
    archive = open_archive(path, tmp_path, encoding)
    assert archive.names == tuple(sorted((name, "plain.png")))
    assert archive.read(name) == b"0"
    assert len(open_archive(path, tmp_path, undecided="cp437").names) == 2


def test_unflagged_utf8_and_unicode_path_are_detected(tmp_path: Path) -> None:
    name = "好中球/細胞1.png"
    assert open_archive(write_zip(tmp_path / "a.zip", [name.encode()]), tmp_path).names == (name,)
    archive = open_archive(
        write_zip(tmp_path / "b.zip", ["中性/1.png".encode("gbk")], True), tmp_path
    )
    assert archive.names == ("中性/1.png",) and archive.read("中性/1.png") == b"0"


def test_wrong_or_unknown_encoding_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "cells.zip", [b"\xff\xfe.png"])
    with pytest.raises(ValueError, match="is not gbk; choose another"):
        open_archive(path, tmp_path, "gbk")
    with pytest.raises(ValueError, match="'klingon' is not an encoding"):
        open_archive(path, tmp_path, "klingon")


def test_tar_in_local_code_page(tmp_path: Path) -> None:
    path = tmp_path / "cells.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="cp1252") as file:
        info = tarfile.TarInfo("Éosinophile/1.png")
        info.size = 1
        file.addfile(info, io.BytesIO(b"0"))
    assert open_archive(path, tmp_path).unreadable_names == ("\udcc9osinophile/1.png",)
    assert open_archive(path, tmp_path, "cp1252").read("Éosinophile/1.png") == b"0"


def test_printable_name_escapes_undecodable_bytes() -> None:
    assert printable_name("caf\udce9\n☃.png") == "caf\\xe9\\x0a☃.png"
