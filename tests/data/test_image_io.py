"""Images: 8-bit RGB round-trips exactly, and everything else is rejected by name."""

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from hf_wbc.data.image_io import (
    MAX_PIXELS,
    ImageFault,
    clean_bytes,
    decode_rgb,
    encode_png,
    pixel_sha256,
)

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (20, 23, 3), dtype=np.uint8)
SMOOTH = np.clip(np.add.outer(np.arange(20), np.arange(23))[..., None] * [3, 4, 5], 0, 255)
PIXELS = SMOOTH.astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def frames(kind: str) -> bytes:
    others = [Image.fromarray(np.roll(PIXELS, shift, 0)) for shift in (5, 9)]
    return encoded(PIXELS, kind, save_all=True, append_images=others)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, bits: int, colour: int, data: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff_16_bit_rgb() -> bytes:
    entries = [(256, 3, 2), (257, 3, 1), (259, 3, 1), (262, 3, 2), (277, 3, 3), (278, 3, 1)]
    offset = 8 + 2 + 12 * 9 + 4
    entries += [(258, 3, offset), (273, 4, offset + 6), (279, 4, 12)]
    table = b"".join(
        struct.pack("<HHII", tag, kind, 3 if tag == 258 else 1, value)
        for tag, kind, value in sorted(entries)
    )
    bits_and_pixels = struct.pack("<3H", 16, 16, 16) + bytes(12)
    return b"II*\0" + struct.pack("<IH", 8, 9) + table + struct.pack("<I", 0) + bits_and_pixels


GREY = Image.fromarray(PIXELS).convert("L")
CASES = {
    "zero bytes": (b"", "zero bytes"),
    "text": (b"dear colleague, the images follow", "no image"),
    "a vector drawing": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image"),
    "grey JPEG": (encoded(GREY, "JPEG"), "grey"),
    "grey PNG": (encoded(GREY, "PNG"), "grey"),
    "grey TIFF": (encoded(GREY, "TIFF"), "grey"),
    "grey with alpha": (encoded(GREY.convert("LA"), "PNG"), "grey with alpha"),
    "black and white": (encoded(GREY.convert("1"), "PNG"), "black and white"),
    "black and white TIFF": (encoded(GREY.convert("1"), "TIFF"), "black and white"),
    "palette PNG": (encoded(Image.fromarray(PIXELS).quantize(), "PNG"), "palette"),
    "palette TIFF": (encoded(Image.fromarray(PIXELS).quantize(), "TIFF"), "palette"),
    "palette BMP": (encoded(Image.fromarray(PIXELS).quantize(), "BMP"), "palette"),
    "GIF": (encoded(PIXELS, "GIF"), "palette"),
    "CMYK JPEG": (encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG"), "CMYK"),
    "CMYK TIFF": (encoded(Image.fromarray(PIXELS).convert("CMYK"), "TIFF"), "CMYK"),
    "LAB TIFF": (encoded(Image.new("LAB", (9, 9)), "TIFF"), "of the kind LAB"),
    "floating point": (encoded(Image.new("F", (9, 9)), "TIFF"), "32 bits"),
    "16-bit grey PNG": (encoded(Image.new("I;16", (9, 9)), "PNG"), "16 bits"),
    "16-bit grey TIFF": (encoded(Image.new("I;16", (9, 9)), "TIFF"), "16 bits"),
    "16-bit RGB PNG": (png(2, 1, 16, 2, bytes(13)), "16 bits"),
    "16-bit RGBA PNG": (png(2, 1, 16, 6, bytes(17)), "16 bits"),
    "16-bit RGB TIFF": (tiff_16_bit_rgb(), "16 bits"),
    "animated GIF": (frames("GIF"), "an animation"),
    "animated WebP": (frames("WEBP"), "several pages"),
    "animated PNG": (frames("PNG"), "several pages"),
    "TIFF of several pages": (frames("TIFF"), "several pages"),
    "bomb": (png(60_000, 60_000, 8, 2, b""), "decompression bomb"),
    "small bomb": (png(MAX_PIXELS // 1000 + 1, 1000, 8, 2, b""), "decompression bomb"),
}
LOSSLESS = {
    "PNG": {},
    "TIFF": {},
    "TIFF LZW": {"compression": "tiff_lzw"},
    "TIFF deflate": {"compression": "tiff_adobe_deflate"},
    "BMP": {},
    "WEBP": {"lossless": True},
}


@pytest.mark.parametrize("data, message", CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("error")
def test_anything_but_one_8_bit_rgb_image_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ImageFault, match=message) as error:
        decode_rgb(data, "ig/MY_1.jpg")
    assert str(error.value).startswith("ig/MY_1.jpg: ") and "--skip-bad" in str(error.value)


def test_gray_12_bit_jpeg_is_refused() -> None:
    data = bytearray(encoded(PIXELS, "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(ImageFault, match="12 bits"):
        decode_rgb(bytes(data), "x")


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("alpha", [None, 255, 17])
def test_rgb_round_trips_and_alpha_is_dropped(kind: str, alpha: int | None) -> None:
    image = Image.fromarray(NOISE)
    if alpha is not None:
        image.putalpha(alpha)
    data = encoded(image, kind.split()[0], **LOSSLESS[kind], **({"exact": True} if alpha else {}))
    pixels = decode_rgb(data, "x")
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, NOISE)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning")
@pytest.mark.parametrize("part", [0.01, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "progressive", "PNG", "TIFF", "TIFF LZW", "BMP", "WEBP"])
def test_truncated_image_is_refused(kind: str, part: float) -> None:
    options = {"progressive": {"progressive": True}, "TIFF LZW": {"compression": "tiff_lzw"}}
    form = "JPEG" if kind == "progressive" else kind.split()[0]
    data = encoded(NOISE, form, **options.get(kind, {}))
    with pytest.raises(ImageFault, match=r"truncated or damaged|no image"):
        decode_rgb(data[: int(len(data) * part)], "x")


def test_jpeg_with_zeroed_second_half_is_refused() -> None:
    data = encoded(NOISE, "JPEG")
    half = len(data) // 2
    with pytest.raises(ImageFault, match="truncated or damaged"):
        decode_rgb(data[:half] + bytes(len(data) - half), "x")


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_raise_only_image_fault(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"]))
    damaged = bytearray(encoded(PIXELS, kind))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(damaged) - 1, 200)))
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        pixels = decode_rgb(bytes(damaged), "x")
    except ImageFault:
        return
    assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8


def test_pillow_settings_are_unchanged() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    decode_rgb(encoded(PIXELS, "PNG"), "x")
    after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    assert after == before == (1024**3 // 4 // 3, False)


def test_decoding_is_refused_while_pillow_loads_truncated_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ValueError, match="LOAD_TRUNCATED_IMAGES") as error:
        decode_rgb(encoded(PIXELS, "PNG"), "x")
    assert not isinstance(error.value, ImageFault)  # skipping bad images must not skip them all


def test_encoded_png_round_trips_without_metadata() -> None:
    data = encode_png(NOISE)
    image = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(np.asarray(image), NOISE)
    assert image.info == {} and data == encode_png(NOISE.copy())


def test_digest_is_independent_of_memory_order() -> None:
    expected = hashlib.sha256(PIXELS.tobytes()).hexdigest()
    assert pixel_sha256(PIXELS) == pixel_sha256(np.asfortranarray(PIXELS)) == expected


def test_clean_bytes_keep_pixels_and_drop_metadata() -> None:
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    secret = {"exif": exif, "comment": b"Jane Doe", "xmp": b"Jane Doe"}
    for data in (
        encoded(PIXELS, "JPEG", **secret),
        encoded(PIXELS, "JPEG", progressive=True, **secret),
        encoded(PIXELS, "PNG", exif=exif),
        encoded(PIXELS, "TIFF", exif=exif),
    ):
        assert b"Jane Doe" in data
        pixels = decode_rgb(data, "x")
        clean = clean_bytes(data, pixels)
        assert b"Jane Doe" not in clean
        np.testing.assert_array_equal(decode_rgb(clean, "x"), pixels)


def test_real_faults_and_duplicates_are_recognized(shared: Path) -> None:
    root = shared / "data/pbc_quirks"
    with pytest.raises(ImageFault, match=r"\.DS_169665\.jpg: no image"):
        decode_rgb((root / "neutrophil/.DS_169665.jpg").read_bytes(), ".DS_169665.jpg")
    digests = {}
    for path in root.glob("*/[!.]*.jpg"):
        data = path.read_bytes()
        pixels = decode_rgb(data, path.name)
        clean = clean_bytes(data, pixels)
        np.testing.assert_array_equal(decode_rgb(clean, path.name), pixels)
        assert b"Intel(R) JPEG Library" in data and b"Intel" not in clean
        digests.setdefault(pixel_sha256(pixels), []).append(path.stem)
    assert sorted(map(len, digests.values())) == [2] * 17
    assert ["BNE_191112", "EO_225902"] in [sorted(pair) for pair in digests.values()]


def test_real_tiffs_lose_only_their_alpha(shared: Path) -> None:
    paths = sorted((shared / "data/matek_lmu_mini").glob("*/*/*.tiff"))
    assert len(paths) == 29
    for path in paths:
        data = path.read_bytes()
        raw = np.frombuffer(data, np.uint8, 400 * 400 * 4, offset=154).reshape(400, 400, 4)
        np.testing.assert_array_equal(decode_rgb(data, path.name), raw[..., :3])
