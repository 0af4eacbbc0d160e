"""A compressed tar is decompressed once, completely or not at all."""

import gzip
import resource
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from hf_wbc.data.archive import open_archive
from hf_wbc.data.decompress import decompress_tar

NOISE = np.random.default_rng(0).bytes(300_000)


@pytest.fixture(params=["gz", "bz2", "xz"])
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "BA_1.jpg").write_bytes(NOISE)
    path = tmp_path / f"cells.tar.{request.param}"
    with tarfile.open(path, f"w:{request.param}") as file:
        file.add(tmp_path / "BA_1.jpg", "BA_1.jpg")
    return path


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_tar_is_decompressed_once(packed: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    first = decompress_tar(packed, scratch)
    inode = first.stat().st_ino
    assert decompress_tar(packed, scratch) == first and first.stat().st_ino == inode
    assert list(scratch.iterdir()) == [first]
    with tarfile.open(first, "r:") as file:
        assert file.getnames() == ["BA_1.jpg"]


def test_changed_archive_is_decompressed_again(packed: Path, tmp_path: Path) -> None:
    first = decompress_tar(packed, tmp_path / "scratch")
    with tarfile.open(packed, f"w:{packed.suffix[1:]}") as file:
        file.add(tmp_path / "BA_1.jpg", "BA_2.jpg")
    assert decompress_tar(packed, tmp_path / "scratch") != first
    assert open_archive(packed, tmp_path / "scratch").names == ("BA_2.jpg",)


@pytest.mark.parametrize("part", [0.001, 0.3, 0.9999])
def test_truncated_archive_is_refused_and_leaves_nothing(
    packed: Path, tmp_path: Path, part: float
) -> None:
    packed.write_bytes(packed.read_bytes()[: int(packed.stat().st_size * part)])
    with pytest.raises(ValueError, match=rf"{packed.name} is truncated or damaged"):
        open_archive(packed, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_damaged_archive_is_refused_and_leaves_nothing(packed: Path, tmp_path: Path) -> None:
    data = bytearray(packed.read_bytes())
    data[len(data) // 2] ^= 0xFF
    packed.write_bytes(data)
    with pytest.raises(ValueError, match=rf"{packed.name} .*is damaged|truncated or damaged"):
        open_archive(packed, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_full_disk_leaves_nothing(packed: Path, tmp_path: Path) -> None:
    with largest_file(100_000), pytest.raises(OSError, match="File too large"):
        open_archive(packed, tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_compressed_text_is_not_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "notes.tar.gz"
    path.write_bytes(gzip.compress(b"dear colleague, " * 1000))
    with pytest.raises(ValueError, match=r"notes\.tar\.gz holds no tar"):
        open_archive(path, tmp_path / "scratch")
