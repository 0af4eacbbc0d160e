"""Cached pixels match the model's processor, are computed once, and follow row changes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from transformers import ViTImageProcessor

import hf_wbc.data.pixel_cache as module
from hf_wbc.data.crop import Geometry, crop_and_resize
from hf_wbc.data.dataset import DomainSplit, load_split
from hf_wbc.data.pixel_cache import cache_pixels, choose_num_processes
from hf_wbc.data.table import Table

MakeDomain = Callable[..., Path]
FILE = "cropped/train-00000-of-00001.parquet"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a separate cache."""
    path = tmp_path / "cache"
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", path)
    return path


@pytest.fixture
def folder(tmp_path: Path, make_domain: MakeDomain) -> Path:
    return make_domain(tmp_path / "toy", num_per_class=2)


def everything(table: Table) -> np.ndarray:
    return table.batch(np.arange(len(table))).numpy()


def processed(domain: DomainSplit, size: int, resample: int) -> np.ndarray:
    """Process the images (N, H, W, 3) uint8 with transformers' own processor."""
    processor = ViTImageProcessor(
        size={"height": size, "width": size},
        resample=resample,
        do_rescale=False,
        do_normalize=False,
    )
    images = [row["image"].convert("RGB") for row in domain.dataset]
    return processor(images, return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)


@pytest.mark.parametrize("size", [24, 56])
@pytest.mark.parametrize("resample", [2, 3])
def test_pixels_match_processor_resize(folder: Path, size: int, resample: int) -> None:
    domain = load_split(str(folder), "train")
    pixels = everything(cache_pixels(domain, Geometry(size, resample)))
    assert pixels.shape == (22, size, size, 3)
    assert np.array_equal(pixels, processed(domain, size, resample))


def test_pixels_match_processor_resize_on_real_cells(shared: Path) -> None:
    paths = sorted((shared / "data" / "tecom_jiangxi").rglob("*.bmp"))[:3]
    assert paths
    processor = ViTImageProcessor(do_rescale=False, do_normalize=False)
    for path in paths:
        frame = Image.open(path).convert("RGB")
        side = min(frame.size)
        cropped = np.asarray(frame)[:side, :side]
        expected = processor(Image.fromarray(cropped), return_tensors="np")["pixel_values"][0]
        assert np.array_equal(
            crop_and_resize(cropped, None, Geometry(224, 2)), expected.transpose(1, 2, 0)
        )


def test_unscaled_frame_is_cropped_to_short_side() -> None:
    frame = np.zeros((30, 40, 3), np.uint8)
    frame[:, 5:35] = 255
    assert (np.asarray(crop_and_resize(frame, None, Geometry(30, 2))) == 255).all()


def test_whole_frame_and_its_crop_give_same_pixels() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    crop = frame[5:55, 10:60]
    whole, part = (crop_and_resize(pixels, 0.5, Geometry(32, 3)) for pixels in (frame, crop))
    assert np.array_equal(whole, part)


def test_pixels_are_computed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = load_split(str(folder), "train")
    first = everything(cache_pixels(domain, Geometry(16, 2)))
    monkeypatch.setattr(module, "_build", lambda *_: pytest.fail("built again"))
    assert np.array_equal(everything(cache_pixels(domain, Geometry(16, 2), num_proc=2)), first)


def test_changed_rows_or_geometry_recompute_pixels(folder: Path) -> None:
    domain = load_split(str(folder), "train")
    before = everything(cache_pixels(domain, Geometry(16, 2)))
    assert not np.array_equal(everything(cache_pixels(domain, Geometry(16, 3))), before)
    table = pq.read_table(folder / FILE)
    pq.write_table(table.take(list(range(len(table)))[::-1]), folder / FILE)
    after = everything(cache_pixels(load_split(str(folder), "train"), Geometry(16, 2)))
    assert np.array_equal(after, before[::-1])


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_cache_has_a_remedy(folder: Path, cache: Path, share: float) -> None:
    domain, geometry = load_split(str(folder), "train"), Geometry(8, 2)
    cache_pixels(domain, geometry)
    (stored,) = cache.rglob("pixels.arrow")
    stored.write_bytes(stored.read_bytes()[: int(share * stored.stat().st_size)])
    with pytest.raises(ValueError, match=r"are damaged .*delete that folder"):
        cache_pixels(domain, geometry)


def test_two_processes_match_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain = load_split(str(folder), "train")
    alone = everything(cache_pixels(domain, Geometry(16, 2), num_proc=1))
    monkeypatch.setattr(module, "_ROWS_PER_PROCESS", 11)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 4)
    monkeypatch.setattr(module, "_ROWS_PER_JOB", 2)
    monkeypatch.setattr(module, "FORMAT", -1)
    together = cache_pixels(domain, Geometry(16, 2), num_proc=2)
    assert len(together.chunks) == 6
    assert np.array_equal(everything(together), alone)


def test_small_tables_do_not_start_processes() -> None:
    assert choose_num_processes(100, 8) is None
    assert choose_num_processes(10_000, 1) is None
    assert choose_num_processes(100_000, 8) == 8
    assert choose_num_processes(7_000, 8) == 3


def test_pixel_table_has_labels_and_ids_of_its_rows(folder: Path) -> None:
    domain = load_split(str(folder), "train")
    table = cache_pixels(domain, Geometry(16, 2))
    assert table.labels.tolist() == domain.labels.tolist()
    assert table.image_ids == domain.image_ids
    assert table.domain_names == ("toy_a",)
    assert not table.chunks[0].flags.writeable


def with_image(folder: Path, change: Callable[[bytes], bytes]) -> DomainSplit:
    """Return the folder's training rows with the first image's bytes changed."""
    table = pq.read_table(folder / FILE)
    images = table["image"].to_pylist()
    images[0]["bytes"] = change(images[0]["bytes"])
    column = pa.array(images, table.schema.field("image").type)
    pq.write_table(table.set_column(0, table.schema.field("image"), column), folder / FILE)
    return load_split(str(folder), "train")


@pytest.mark.parametrize("num_proc", [1, 2])
@pytest.mark.slow
@pytest.mark.ci
def test_damaged_image_is_reported_and_nothing_left(
    folder: Path, num_proc: int, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(module, "_ROWS_PER_PROCESS", 11)
    domain = with_image(folder, lambda data: data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"toy_a_train_basophil_0\.png"):
        cache_pixels(domain, Geometry(16, 2), num_proc=num_proc)
    assert not list((cache / "hf_wbc" / "pixels").iterdir())


def test_image_with_wrong_digest_is_reported(folder: Path) -> None:
    other = pq.read_table(folder / FILE)["image"][1].as_py()["bytes"]
    with pytest.raises(ValueError, match=r"basophil_0\.png does not have the pixels that its"):
        cache_pixels(with_image(folder, lambda _: other), Geometry(16, 2))


def test_crop_wider_than_rows_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"toy_a_train_basophil_0\.png: a frame of 36x36 px"):
        cache_pixels(load_split(str(folder), "train"), Geometry(16, 2, um=30.0))


def test_invalid_geometry_is_reported() -> None:
    with pytest.raises(ValueError, match="image size is 0"):
        Geometry(0, 2)
    with pytest.raises(ValueError, match="unknown interpolation 9; choose from 2 bilinear"):
        Geometry(16, 9)
