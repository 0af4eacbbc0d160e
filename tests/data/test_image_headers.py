"""Files made to stall a decoder or a parser are refused within the time it takes to read them."""

import io
import struct
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from support import app_files

from hf_wbc.data.image_io import ImageFault, decode_pages, decode_rgb
from hf_wbc.data.tiff import tiff_pages

CELL = app_files.cell()


def progressive_jpeg(num_scans: int) -> bytes:
    """Repeat a scan of a progressive JPEG, as a decoder must draw each of them."""
    data = app_files.encoded("JPEG", side=1600, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * num_scans + b"\xff\xd9"


def many_segments() -> bytes:
    data = app_files.encoded("JPEG")
    return data[:2] + b"\xff\xe5\0\2" * 2_000_000 + data[2:]


def tiff_of_pages(num: int, size: int = 1) -> bytes:
    """Return pages whose directories follow each other."""
    entries = [(256, size), (257, size), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (279, 1)]
    data = bytearray(b"II*\0" + struct.pack("<I", 8))
    for page in range(num):
        data += struct.pack("<H", len(entries))
        data += b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in entries)
        data += struct.pack("<I", 0 if page == num - 1 else len(data) + 4)
    return bytes(data)


def tiff_that_quotes_itself(tags: int = 900, pointer: int | None = None) -> bytes:
    """Return a TIFF each of whose entries, or those of its EXIF, refer to the whole file."""
    length = 4 << 20
    entries = [
        (256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 3, 400), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, 8), (279, 4, 1, 192),
    ]  # fmt: skip
    quotes = [(700 + number, 1, length, 0) for number in range(tags)]
    if pointer is not None:
        entries, quotes = [*entries, (pointer, 4, 1, 512)], quotes
    data = b"II*\0" + struct.pack("<IH", 8, len(entries if pointer else entries + quotes))
    for part in [entries] if pointer else [entries + quotes]:
        data += b"".join(struct.pack("<HHII", *entry) for entry in part) + bytes(4)
    if pointer is not None:
        data = data.ljust(400, b"\0") + struct.pack("<3H", 8, 8, 8)
        data = data.ljust(512, b"\0") + struct.pack("<H", len(quotes))
        data += b"".join(struct.pack("<HHII", *entry) for entry in quotes) + bytes(4)
    return data.ljust(length, b"\0")


def jpeg_whose_exif_quotes_itself() -> bytes:
    exif = tiff_that_quotes_itself(tags=900)[: 1 << 20]
    data = app_files.encoded("JPEG")
    parts = [exif[start : start + 65_000] for start in range(0, len(exif), 65_000)]
    segments = [
        b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part for part in parts
    ]
    return data[:2] + b"".join(segments) + data[2:]


def gif_of_comments() -> bytes:
    data = app_files.encoded("GIF", "P")
    return data[:-1] + (b"\x21\xfe" + (b"\xff" + bytes(255)) * 40_000 + b"\0") + data[-1:]


def png_of_chunks() -> bytes:
    data = app_files.encoded("PNG")
    return data[:33] + b"\0\0\0\0IDAT\x35\xaf\x06\x1e" * 500_000 + data[33:]


def tiff_of_strips() -> bytes:
    """Return an image of 3 million strips, each of which is a Python object for Pillow."""
    num = 3_000_000
    entries = [
        (256, 3, 1, 1), (257, 4, 1, num), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, num, 200), (277, 3, 1, 3), (278, 3, 1, 1), (279, 4, num, 200),
    ]  # fmt: skip
    data = b"II*\0" + struct.pack("<IH", 8, len(entries))
    data += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return data.ljust(200, b"\0") + bytes(4 * num)


def tiff_of_large_tiles() -> bytes:
    data = bytearray(app_files.encoded("TIFF", compression="tiff_lzw"))
    at = struct.unpack_from("<I", data, 4)[0] + 2
    for start in range(at, at + 12 * struct.unpack_from("<H", data, at - 2)[0], 12):
        tag = struct.unpack_from("<H", data, start)[0]
        if tag in (273, 278, 279):
            new, value = {273: (324, None), 278: (322, 65_000), 279: (325, None)}[tag]
            struct.pack_into("<H", data, start, new)
            if value:
                struct.pack_into("<HII", data, start + 2, 4, 1, value)
        if tag == 284:
            struct.pack_into("<HHII", data, start, 323, 4, 1, 65_000)
    return bytes(data)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "JPEG of scans": lambda: progressive_jpeg(450),
    "small JPEG of scans": lambda: (
        app_files.encoded("JPEG")[:-2]
        + app_files.encoded("JPEG")[app_files.encoded("JPEG").rindex(b"\xff\xda") : -2] * 3000
        + b"\xff\xd9"
    ),
    "JPEG of segments": many_segments,
    "pages": lambda: tiff_of_pages(200_000),
    "quotes": tiff_that_quotes_itself,
    "GIF of comments": gif_of_comments,
    "PNG of chunks": png_of_chunks,
    "TIFF of strips": tiff_of_strips,
    "TIFF of large tiles": tiff_of_large_tiles,
    "canvas": lambda: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0\xff\x3f\0\xff\x3f\0" + bytes(20),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_file_made_to_stall_decoder_is_refused_quickly(name: str) -> None:
    data = HOSTILE[name]()
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(ImageFault):
            decode_rgb(data, "x")
        assert tracemalloc.get_traced_memory()[1] < 5 * len(data) + (32 << 20)
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 3


@pytest.mark.parametrize("pointer", [34665, 34853, 330])
def test_self_referencing_metadata_is_not_loaded(pointer: int) -> None:
    tiff, jpeg = tiff_that_quotes_itself(pointer=pointer), jpeg_whose_exif_quotes_itself()
    tracemalloc.start()
    try:
        assert decode_rgb(tiff, "x").shape == (8, 8, 3)
        assert decode_rgb(jpeg, "x").shape == CELL.shape
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"]
)
@pytest.mark.parametrize("big", [False, True])
def test_tiff_pages_are_counted_and_decoded_separately(big: bool, compression: str) -> None:
    buffer = io.BytesIO()
    images = [Image.fromarray(app_files.cell(seed)) for seed in range(3)]
    options = {"save_all": True, "append_images": images[1:], "compression": compression}
    images[0].save(buffer, "TIFF", big_tiff=big, **options)
    data = buffer.getvalue()
    assert len(tiff_pages(data, 10)) == 3 and len(tiff_pages(data, 2)) == 2
    found = list(decode_pages(data, "x", 10))
    assert [number for number, _ in found] == [1, 2, 3]
    with Image.open(io.BytesIO(data)) as image:
        for number, pixels in found:
            image.seek(number - 1)
            np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("has_sizes", [True, False])
def test_big_endian_tiff_is_read_even_without_strip_sizes(has_sizes: bool) -> None:
    entries = [
        (256, 1, 60), (257, 1, 60), (258, 3, 200), (259, 1, 1), (262, 1, 2), (273, 1, 300),
        (277, 1, 3), (278, 1, 60), (279, 1, 60 * 60 * 3),
    ][: 9 if has_sizes else 8]  # fmt: skip
    data = b"MM\0*" + struct.pack(">IH", 8, len(entries))
    for tag, num, value in entries:
        inline = struct.pack(">I", value) if num > 1 else struct.pack(">HH", value, 0)
        data += struct.pack(">HHI", tag, 3, num) + inline
    data = (data + bytes(4)).ljust(200, b"\0") + struct.pack(">3H", 8, 8, 8)
    data = data.ljust(300, b"\0") + CELL.tobytes()
    np.testing.assert_array_equal(decode_rgb(data, "x"), CELL)


def test_cyclic_tiff_pages_terminate() -> None:
    data = bytearray(tiff_of_pages(3))
    data[-4:] = struct.pack("<I", 8)
    assert len(tiff_pages(bytes(data), 100)) == 3
    with pytest.raises(ImageFault, match="more than 2 pages"):
        list(decode_pages(bytes(data), "x", 2))
