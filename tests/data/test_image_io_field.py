"""Images from phones, scanners, and office programs decode to what a viewer shows, upright."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from hf_wbc.data import image_io
from hf_wbc.data.image_io import ImageFault, clean_bytes, decode_rgb, image_size

RNG = np.random.default_rng(0)
PIXELS = np.kron(RNG.integers(0, 256, (4, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
JPEG = {"quality": 95, "subsampling": 0}
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
needs_jpeg2000 = pytest.mark.skipif(
    not features.check("jpg_2000"), reason="Pillow without JPEG 2000"
)


def encoded(kind: str, pixels: np.ndarray = PIXELS, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010E] = "Jane Doe"
    return exif


ROTATED: dict[str, Callable[[int], bytes]] = {
    "JPEG": lambda turn: encoded("JPEG", exif=turned(turn), **JPEG),
    "PNG": lambda turn: encoded("PNG", exif=turned(turn)),
    "WEBP": lambda turn: encoded("WEBP", exif=turned(turn), lossless=True),
    "TIFF": lambda turn: encoded("TIFF", tiffinfo={274: turn}),
    "TIFF LZW": lambda turn: encoded("TIFF", tiffinfo={274: turn}, compression="tiff_lzw"),
    "AVIF": lambda turn: encoded("AVIF", exif=turned(turn), quality=100, subsampling="4:4:4"),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [*ROTATED][:5])
def test_every_format_is_upright_before_and_after_cleaning(kind: str, orientation: int) -> None:
    data = ROTATED[kind](orientation)
    with Image.open(io.BytesIO(data)) as image:
        truth = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    pixels = decode_rgb(data, "x")
    np.testing.assert_array_equal(pixels, truth)
    assert pixels.flags.c_contiguous and image_size(data, "x") == truth.shape[1::-1]
    clean = clean_bytes(data, pixels)
    np.testing.assert_array_equal(decode_rgb(clean, "x"), pixels)
    assert b"Jane" not in clean


@needs_avif
def test_avif_is_upright_and_damaged_one_refused() -> None:
    data = ROTATED["AVIF"](6)
    upright = np.rot90(PIXELS, -1).astype(int)
    assert np.abs(decode_rgb(data, "x") - upright).mean() < 8
    assert image_size(data, "x") == (32, 48)
    with pytest.raises(ImageFault, match="truncated or damaged"):
        decode_rgb(data[: len(data) // 2], "x")
    frames = encoded("AVIF", save_all=True, append_images=[Image.fromarray(PIXELS[::-1])])
    with pytest.raises(ImageFault, match="several pages"):
        decode_rgb(frames, "x")


@needs_jpeg2000
@pytest.mark.parametrize("name", ["a.jp2", "a.j2k"])
def test_jpeg_2000_of_8_bits_is_read(name: str) -> None:
    buffer = io.BytesIO()
    buffer.name = name
    Image.fromarray(PIXELS).save(buffer, "JPEG2000", irreversible=False)
    data = bytearray(buffer.getvalue())
    np.testing.assert_array_equal(decode_rgb(bytes(data), "x"), PIXELS)
    data[data.index(b"\xff\x4f\xff\x51") + 42] = 11
    with pytest.raises(ImageFault, match=r"12 bits|truncated"):
        decode_rgb(bytes(data), "x")


def test_heic_photo_is_read_with_the_extra() -> None:
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(PIXELS)).save(buffer, quality=-1, chroma=444)
    data = buffer.getvalue()
    assert np.abs(decode_rgb(data, "x").astype(int) - PIXELS).mean() < 4
    with pytest.raises(ImageFault, match="damaged HEIC"):
        decode_rgb(data[:-100], "x")


def test_heic_photo_without_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    monkeypatch.setattr(image_io, "run_limited", lambda function, *args: function(*args))
    with pytest.raises(ImageFault, match=r"HEIC photo .*pip install 'hf_wbc\[heif\]'"):
        decode_rgb(b"\0\0\0\x18ftypheic" + bytes(50), "IMG_1.HEIC")


def test_first_image_of_mpo_file_is_read() -> None:
    preview = Image.fromarray(PIXELS[::2, ::2])
    data = encoded("MPO", save_all=True, append_images=[preview], **JPEG)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    first = np.asarray(Image.open(io.BytesIO(encoded("JPEG", **JPEG))))
    np.testing.assert_array_equal(decode_rgb(data, "x"), first)
    np.testing.assert_array_equal(decode_rgb(clean_bytes(data, first), "x"), first)


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_large_png_metadata_is_not_decompressed(kind: bytes) -> None:
    text = zlib.compress(bytes(70 << 20))
    body = {b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0", b"iCCP": b"a\0\0"}[kind] + text
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    data = encoded("PNG")
    np.testing.assert_array_equal(decode_rgb(data[:33] + chunk + data[33:], "x"), PIXELS)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_empty_associated_alpha_does_not_blacken_tiff(compression: str, alpha: int) -> None:
    rgba = np.concatenate([PIXELS // 4, np.full((*PIXELS.shape[:2], 1), alpha, np.uint8)], 2)
    data = bytearray(encoded("TIFF", rgba, compression=compression))
    data[data.index(b"\x52\1\3\0\1\0\0\0") + 8] = 1  # Pillow writes 2, unassociated
    data = bytes(data)
    with Image.open(io.BytesIO(data)) as image:
        assert image.tag_v2[338] in (1, (1,))
        divided = np.asarray(image)[..., :3]
    pixels = decode_rgb(data, "x")
    np.testing.assert_array_equal(pixels, divided if alpha else PIXELS // 4)


def test_git_lfs_pointer_is_reported() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    with pytest.raises(ImageFault, match=r"cell\.png: a Git LFS pointer.*`git lfs pull`"):
        decode_rgb(pointer, "cell.png")
