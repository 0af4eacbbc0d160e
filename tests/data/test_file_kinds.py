"""Files are recognized by their content, and a Git LFS pointer is reported as one everywhere."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hf_wbc.data.archive import open_archive
from hf_wbc.data.dataset import load_split
from hf_wbc.data.file_kinds import HEIF, other_kind, picture_format
from hf_wbc.models.pretrained import fetch_checkpoint

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
MEDIA = {
    b"ftypheic\0\0\0\0mif1heic": HEIF,
    b"ftypmif1\0\0\0\0mif1heic": HEIF,
    b"ftypmif1\0\0\0\0avifmif1": "AVIF",
    b"ftypavif\0\0\0\0avifmif1": "AVIF",
    b"ftypisom\0\0\0\0isomavc1": None,
}


@pytest.mark.parametrize("brands", MEDIA)
def test_photos_and_videos_are_told_apart_by_brand(brands: bytes) -> None:
    data = b"\0\0\0\x18" + brands + bytes(50)
    assert picture_format(data) == MEDIA[brands]
    kind = other_kind(data)
    assert (kind is None) if MEDIA[brands] else (kind is not None and kind.what == "a video")


def test_lfs_pointer_in_place_of_archive_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cells.zip").write_bytes(POINTER)
    with pytest.raises(ValueError, match=r"cells\.zip is a Git LFS pointer.*git lfs pull"):
        open_archive(tmp_path / "cells.zip", tmp_path)


def test_lfs_pointer_in_place_of_shard_is_reported(
    make_domain: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_domain(tmp_path / "lab")
    for path in folder.glob("*/train-*.parquet"):
        path.write_bytes(POINTER)
    with pytest.raises(ValueError, match=r"parquet is a Git LFS pointer.*git lfs pull"):
        load_split(str(folder), "train")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_lfs_pointer_in_place_of_model_file_is_reported(name: str, tmp_path: Path) -> None:
    for file in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / file).write_bytes(POINTER if file == name else b"{}")
    with pytest.raises(ValueError, match=rf"{name} is a Git LFS pointer.*git lfs pull"):
        fetch_checkpoint(str(tmp_path))
