"""The sizes that an archive states limit what is unpacked; what expands further is refused."""

import bz2
import gzip
import lzma
import random
import signal
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import app_files

from hf_wbc.app.uploads import read_uploads
from hf_wbc.data import decompress
from hf_wbc.data.archive import open_archive

STATED = 100
MEGABYTES = 24
PACK = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
METHODS = {"deflate": 8, "bzip2": 12, "lzma": 14}


def packed(method: str, data: bytes) -> bytes:
    """Compress data as a member of a zip."""
    if method == "bzip2":
        return bz2.compress(data)
    if method == "deflate":
        encoder = zlib.compressobj(9, zlib.DEFLATED, -15)
        return encoder.compress(data) + encoder.flush()
    found = lzma.compress(data, lzma.FORMAT_ALONE)
    return struct.pack("<BBH", 9, 4, 5) + found[:5] + found[13:]


def forged_zip(method: str, data: bytes, *, size: int, crc: int, times: int = 1) -> bytes:
    """Return a zip whose directory states any size, and lists one member several times."""
    body = packed(method, data)
    facts = struct.pack("<HHHHIII", 0, METHODS[method], 0, 33, crc, len(body), size)
    local = b"PK\3\4" + struct.pack("<H", 63) + facts + struct.pack("<HH", 5, 0) + b"0.png" + body
    directory = b"".join(
        b"PK\1\2"
        + struct.pack("<HH", 63, 63)
        + facts
        + struct.pack("<HHHHHII", 5, 0, 0, 0, 0, 0, 0)
        + b"%d.png" % number
        for number in range(times)
    )
    end = struct.pack("<HHHHIIH", 0, 0, times, times, len(directory), len(local), 0)
    return local + directory + b"PK\5\6" + end


@contextmanager
def at_most(megabytes: int) -> Iterator[None]:
    """Fail if more memory is allocated at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < megabytes * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", METHODS)
def test_member_larger_than_stated_is_refused_with_little_memory(
    method: str, tmp_path: Path
) -> None:
    path = tmp_path / "bomb.zip"
    crc = zlib.crc32(bytes(STATED))
    path.write_bytes(forged_zip(method, bytes(MEGABYTES << 20), size=STATED, crc=crc))
    with at_most(16):
        archive = open_archive(path, tmp_path)
        with pytest.raises(ValueError, match=r"0\.png: it unpacks to more than the 100 bytes"):
            archive.read("0.png")
        found = read_uploads(app_files.give(tmp_path, {"bomb.zip": path.read_bytes()}))
    assert [one.name for one in found.refused] == ["bomb.zip: 0.png"]


@pytest.mark.parametrize("method", METHODS)
def test_member_is_read_completely(method: str, tmp_path: Path) -> None:
    data = random.Random(0).randbytes(60_000) * 20
    path = tmp_path / "cells.zip"
    path.write_bytes(forged_zip(method, data, size=len(data), crc=zlib.crc32(data)))
    assert open_archive(path, tmp_path).read("0.png") == data
    for size, crc, words in (
        (len(data) + 1, zlib.crc32(data), "ends too early"),
        (len(data), 1, "CRC"),
    ):
        path.write_bytes(forged_zip(method, data, size=size, crc=crc))
        with pytest.raises(ValueError, match=words):
            open_archive(path, tmp_path).read("0.png")


@pytest.mark.parametrize("method", METHODS)
def test_damaged_member_does_not_affect_others(method: str, tmp_path: Path) -> None:
    for position in (4, 8, 20):
        data = bytearray(packed(method, app_files.encoded()))
        data[position:] = bytes(len(data) - position)
        path = tmp_path / "cells.zip"
        with zipfile.ZipFile(path, "w", METHODS[method]) as file:
            file.writestr("bad.png", app_files.encoded())
            file.writestr("good.png", app_files.encoded(seed=1))
        whole = bytearray(path.read_bytes())
        start = 30 + len("bad.png") + position
        whole[start : start + 200] = bytes(200)
        path.write_bytes(whole)
        with pytest.raises(ValueError, match=r"truncated or damaged \(bad\.png: "):
            open_archive(path, tmp_path).read("bad.png")
        found = read_uploads(app_files.give(tmp_path / str(position), {"a.zip": bytes(whole)}))
        assert [picture.name for picture in found.pictures] == ["good.png"]


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "quoted.zip"
    data = random.Random(0).randbytes(10_000)
    path.write_bytes(forged_zip("deflate", data, size=10_000, crc=zlib.crc32(data), times=9))
    with pytest.raises(ValueError, match=r"1\.png overlaps other files"):
        open_archive(path, tmp_path)


@pytest.mark.parametrize("kind", PACK)
def test_tar_bomb_is_refused_and_leaves_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decompress, "MIN_EXPANDED_BYTES", 2**20)
    header = tarfile.TarInfo("a.png")
    header.size = MEGABYTES << 20
    path = tmp_path / f"bomb.tar.{kind}"
    path.write_bytes(PACK[kind](header.tobuf() + bytes(header.size)))
    with at_most(16), pytest.raises(ValueError, match=r"expands to more than .* bomb"):
        open_archive(path, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_decompression_reserves_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cells.tar.gz"
    path.write_bytes(gzip.compress(tarfile.TarInfo("a.png").tobuf() + bytes(10240)))
    nearly_full = SimpleNamespace(total=2**30, free=2**20)
    monkeypatch.setattr(decompress.shutil, "disk_usage", lambda _: nearly_full)
    with pytest.raises(OSError, match="No space left"):
        open_archive(path, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("kind", PACK)
def test_concatenated_streams_and_trailing_zeros_are_read(kind: str, tmp_path: Path) -> None:
    data = tarfile.TarInfo("a.png").tobuf() + bytes(1024)
    halves = PACK[kind](data[:700]) + PACK[kind](data[700:])
    path = tmp_path / f"cells.tar.{kind}"
    path.write_bytes(halves + bytes(3 * 2**20))
    assert open_archive(path, tmp_path / "scratch").names == ("a.png",)


def tar_header(name: str, kind: bytes, size: int) -> bytes:
    """Return a tar header that states any size, also a negative one."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = size.to_bytes(12, "big", signed=True) if size < 0 else b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    "data",
    {
        "a folder before itself": tar_header("a", tarfile.DIRTYPE, -1024),
        "a file before itself": tar_header("a", tarfile.REGTYPE, -512),
        "facts before themselves": tar_header("a", tarfile.XHDTYPE, -512),
        "a file of a pax size": tar_header("x", tarfile.XHDTYPE, 13)
        + b"13 size=-600\n".ljust(512, b"\0")
        + tar_header("a", tarfile.REGTYPE, 0),
        "a folder of a pax size": tar_header("x", tarfile.XHDTYPE, 14)
        + b"14 size=-1536\n".ljust(512, b"\0")
        + tar_header("a", tarfile.DIRTYPE, 0),
        "names of names": tar_header("a", tarfile.GNUTYPE_LONGNAME, 5) * 3000,
        "digits": tar_header("x", tarfile.XHDTYPE, 2**21) + b"1" * 2**21,
    }.items(),
    ids=lambda case: case[0],
)
def test_tar_crafted_to_hang_reader_is_refused(data: tuple[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(data[1] + bytes(1024))
    signal.alarm(20)
    try:
        with pytest.raises(ValueError, match=r"truncated or damaged|not an archive|no files"):
            open_archive(path, tmp_path)
    finally:
        signal.alarm(0)


@pytest.mark.parametrize("name", ["", ".", "./", "./."])
def test_zip_member_without_name_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("12345", b"data")
    path.write_bytes(path.read_bytes().replace(b"12345", name.encode().ljust(5, b"/")))
    with pytest.raises(ValueError, match=r"a\.zip"):
        open_archive(path, tmp_path)
