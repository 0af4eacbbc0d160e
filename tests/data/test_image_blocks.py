"""Image folders are read in blocks, by one process or several, in the same order."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_wbc.data import image_blocks
from hf_wbc.data.crop import Geometry, crop_and_resize
from hf_wbc.data.image_blocks import list_images, read_blocks, sample_images

GEOMETRY = Geometry(size=24, resample=3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(11):
        pixels = rng.integers(0, 256, (40, 44, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "4.png").write_bytes(b"no image")
    return tmp_path


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(image_blocks, "BLOCK", 4)
    monkeypatch.setattr(image_blocks, "BATCH", 1)
    monkeypatch.setattr("hf_wbc.data.pixel_cache._ROWS_PER_PROCESS", 2)
    yield


@pytest.mark.parametrize(
    "num_proc", [1, pytest.param(2, marks=(pytest.mark.slow, pytest.mark.ci))]
)  # a worker takes seconds to import torch; test_parallel_workers.py covers the order
@pytest.mark.usefixtures("small_blocks")
def test_blocks_contain_every_crop_in_order(folder: Path, num_proc: int) -> None:
    images = list_images(folder, 1.0)
    blocks = list(read_blocks(images, GEOMETRY, num_proc))
    assert [len(block.names) + len(block.faults) for block in blocks] == [4, 4, 3]
    names = [name for block in blocks for name in block.names]
    assert names == sorted(f"{number}.png" for number in range(11) if number != 4)
    (fault,) = (fault for block in blocks for fault in block.faults)
    assert fault.startswith("4.png: no image") and "archive" not in fault
    for name, found in zip(names, np.concatenate([b.pixels for b in blocks]), strict=True):
        frame = np.asarray(Image.open(folder / name))
        np.testing.assert_array_equal(found, crop_and_resize(frame, 1.0, GEOMETRY))


def test_cell_that_fills_the_frame_is_kept_whole(folder: Path) -> None:
    (block,) = read_blocks(list_images(folder, None), GEOMETRY)
    frame = np.asarray(Image.open(folder / "0.png"))
    np.testing.assert_array_equal(block.pixels[0], crop_and_resize(frame, None, GEOMETRY))


def test_sample_is_evenly_spaced_and_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_blocks, "SAMPLE_BYTES", 3 * 3 * 24**2)
    table = sample_images(list_images(folder, 1.0), GEOMETRY)
    assert table.image_ids == ["0.png", "9.png"]  # the middle of 0, 1, 10, 2 ... is 4, the bad one
    assert set(table.labels) == {-1} and table.is_pixels


def test_folder_with_only_bad_images_cannot_be_measured(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(ValueError, match=r"a\.png: zero bytes"):
        sample_images(list_images(tmp_path, 1.0), GEOMETRY)


def test_non_regular_file_is_a_fault_and_does_not_block(folder: Path) -> None:
    os.mkfifo(folder / "5a.png")
    (folder / "6a.png").symlink_to(folder / "nowhere.png")
    (block,) = read_blocks(list_images(folder, 1.0), GEOMETRY, 1)
    assert [fault.partition(":")[0] for fault in block.faults] == ["4.png", "5a.png", "6a.png"]
    assert "not a file" in block.faults[1] and len(block.names) == 10
