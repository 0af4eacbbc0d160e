"""JPEG segments: metadata is removed, color-space markers are kept."""

import io

import numpy as np
import pytest
from PIL import Image

from hf_wbc.data.image_headers import is_complete_jpeg, jpeg_frame_header, strip_metadata

PIXELS = np.random.default_rng(0).integers(0, 256, (19, 33, 3), dtype=np.uint8)


def jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def decode(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


RGB = Image.fromarray(PIXELS)


@pytest.mark.parametrize(
    "options",
    [
        {"subsampling": "4:2:0"},
        {"subsampling": "4:4:4", "quality": 100},
        {"restart_marker_blocks": 1},
        {"progressive": True},
        {"optimize": True},
        {"keep_rgb": True},
    ],
    ids=str,
)
def test_strip_metadata_keeps_every_pixel(options: dict[str, object]) -> None:
    data = jpeg(RGB, comment=b"secret", icc_profile=b"secret" * 20_000, **options)
    clean = strip_metadata(data)
    assert b"secret" in data and b"secret" not in clean
    np.testing.assert_array_equal(decode(clean), decode(data))
    assert strip_metadata(clean) == clean


def test_strip_metadata_drops_thumbnails_comments_and_trailing_bytes() -> None:
    data = jpeg(RGB, progressive=True)
    assert data[2:4] == b"\xff\xe0"
    jfif = segment(0xE0, data[6:18] + bytes((2, 1)) + b"secret")
    jfxx = segment(0xE0, b"JFXX\0\x10secret")
    scan = data.rindex(b"\xff\xda")
    dirty = (
        data[:2] + jfif + jfxx + b"\xff\xff" + data[20:scan] + segment(0xFE, b"secret")
        + data[scan:] + b"secret"
    )  # fmt: skip
    clean = strip_metadata(dirty)
    assert clean == data
    np.testing.assert_array_equal(decode(clean), decode(dirty))


def test_adobe_marker_of_rgb_jpeg_is_kept() -> None:
    plain = jpeg(RGB, keep_rgb=True)
    adobe = segment(0xEE, b"Adobe\0\x64\0\0\0\0\0secret")
    clean = strip_metadata(plain[:2] + adobe + plain[2:])
    assert b"secret" not in clean
    np.testing.assert_array_equal(decode(clean), decode(plain))


def test_frame_header_gives_baseline_bits_and_channels() -> None:
    assert jpeg_frame_header(jpeg(RGB)) == (True, 8, 3)
    assert jpeg_frame_header(jpeg(RGB, progressive=True)) == (False, 8, 3)
    assert jpeg_frame_header(jpeg(RGB.convert("L"))) == (True, 8, 1)
    assert jpeg_frame_header(jpeg(RGB.convert("CMYK"))) == (True, 8, 4)
    assert jpeg_frame_header(b"\xff\xd8\xff\xe0") is None


def test_only_complete_file_is_complete_jpeg() -> None:
    data = jpeg(RGB)
    assert is_complete_jpeg(data) and is_complete_jpeg(data + b"trailing")
    for length in range(len(data)):
        assert not is_complete_jpeg(data[:length])
    with pytest.raises(ValueError, match="no end"):
        strip_metadata(data[:-1])
