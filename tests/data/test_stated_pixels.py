"""The pixel digests that a dataset states are verified, and no cache relies on them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, features

from hf_wbc.data.crop import Geometry
from hf_wbc.data.dataset import load_split
from hf_wbc.data.image_blocks import read_dataset_blocks
from hf_wbc.data.image_io import decode_rgb, pixel_sha256
from hf_wbc.data.pixel_cache import cache_pixels
from hf_wbc.data.stated_pixels import decode_row, is_lossless

FILE = "cropped/train-00000-of-00001.parquet"
LOSSLESS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG"},
    "bmp": {"format": "BMP"},
    "tiff": {"format": "TIFF"},
    "tiff_lzw": {"format": "TIFF", "compression": "tiff_lzw"},
    "tiff_deflate": {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    "webp": {"format": "WEBP", "lossless": True},
}
LOSSY: dict[str, dict[str, Any]] = {
    "jpeg": {"format": "JPEG", "quality": 95},
    "tiff_jpeg": {"format": "TIFF", "compression": "jpeg"},
    "webp": {"format": "WEBP", "quality": 95},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a separate cache."""
    path = tmp_path / "cache"
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", path)
    return path


@pytest.fixture
def genuine(tmp_path: Path, make_domain: Callable[..., Path]) -> Path:
    return make_domain(tmp_path / "genuine", num_per_class=2)


def encoded(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **options)
    return buffer.getvalue()


def poisoned(genuine: Path, **options: Any) -> Path:
    """Copy a dataset with all of its metadata, but with inverted images."""
    folder = genuine.with_name("poisoned")
    (folder / FILE).parent.mkdir(parents=True, exist_ok=True)
    table = pq.read_table(genuine / FILE)
    images = [
        {"bytes": encoded(255 - decode_rgb(image["bytes"], "genuine"), **options), "path": None}
        for image in table["image"].to_pylist()
    ]
    column = pa.array(images, table.schema.field("image").type)
    at = table.schema.get_field_index("image")
    pq.write_table(table.set_column(at, table.schema.field("image"), column), folder / FILE)
    return folder


def cached(folder: Path) -> np.ndarray:
    table = cache_pixels(load_split(str(folder), "train"), Geometry(16, 2))
    return table.batch(np.arange(len(table))).numpy()


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_image_must_match_stated_digest(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    image = {"bytes": encoded(pixels, **LOSSLESS[kind])}
    row = {"image": image, "pixel_sha256": pixel_sha256(pixels)}
    assert np.array_equal(decode_row(row, "a"), pixels)
    with pytest.raises(ValueError, match="a does not have the pixels that its pixel_sha256"):
        decode_row({**row, "pixel_sha256": pixel_sha256(255 - pixels)}, "a")


@pytest.mark.parametrize("kind", LOSSY)
def test_lossy_image_may_decode_to_other_pixels(kind: str) -> None:
    if "jpeg" in kind and kind != "jpeg" and not features.check("libtiff"):
        pytest.skip("this Pillow writes no compressed TIFF")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    data = encoded(pixels, **LOSSY[kind])
    assert not is_lossless(data)
    decode_row({"image": {"bytes": data}, "pixel_sha256": pixel_sha256(pixels)}, "a")


@pytest.mark.parametrize("first", ["genuine", "poisoned"])
def test_dataset_with_copied_metadata_gets_its_own_cache(genuine: Path, first: str) -> None:
    """JPEGs, whose pixels cannot be verified, inverted under the genuine dataset's digests."""
    expected = 255 - cached(poisoned(genuine, format="JPEG", quality=100, subsampling=0))
    other = genuine.with_name("poisoned")
    for folder in (genuine, other) if first == "genuine" else (other, genuine):
        rows = load_split(str(folder), "train").dataset.with_format("arrow")[:]["image"]
        stored = pq.read_table(folder / FILE)["image"]
        assert rows.to_pylist() == stored.to_pylist()
        difference = np.abs(cached(folder).astype(int) - expected)
        assert (difference.max() < 12) == (folder == genuine)
    domains = [load_split(str(folder), "train") for folder in (genuine, other)]
    assert domains[0].image_ids == domains[1].image_ids
    assert domains[0].fingerprint != domains[1].fingerprint
    assert not {*domains[0].bytes_sha256} & {*domains[1].bytes_sha256}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_false_pixels_are_refused_in_training_prediction_and_audit(
    genuine: Path, kind: str
) -> None:
    from hf_wbc.audit.measure import measure_rows

    domain = load_split(str(poisoned(genuine, **LOSSLESS[kind])), "train")
    for read in (
        lambda: cache_pixels(domain, Geometry(16, 2)),
        lambda: list(read_dataset_blocks([domain], Geometry(16, 2), [0], 1)),
        lambda: measure_rows([domain], 0, 0, len(domain)),
    ):
        with pytest.raises(ValueError, match="does not have the pixels that its pixel_sha256"):
            read()


def test_file_changed_in_place_is_read_again(genuine: Path) -> None:
    """The same size and the same modification time, as a copy that keeps times may have."""
    import os

    before = load_split(str(genuine), "train")
    path = genuine / FILE
    facts, data = path.stat(), path.read_bytes()
    old = pq.read_table(path)["image"][0].as_py()["bytes"]
    start = data.index(old)
    path.write_bytes(data[: start + 60] + bytes([data[start + 60] ^ 1]) + data[start + 61 :])
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_size == facts.st_size
    assert load_split(str(genuine), "train").fingerprint != before.fingerprint
