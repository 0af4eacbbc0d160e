"""Decode the image of a dataset's row, and verify the pixels that the row states.

`pixel_sha256` is what a dataset says of itself. It is checked wherever an image is decoded, if
every library decodes it to the same pixels. A JPEG may decode to slightly different pixels with
another libjpeg, so caches are keyed by the bytes of an image, never by this digest.
"""

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hf_wbc.data.image_io import FORMATS, decode_rgb, pixel_sha256

_LOSSLESS = frozenset({"PNG", "BMP", "GIF"})
_LOSSY_TIFF = frozenset({"jpeg", "tiff_jpeg", "webp"})
_JPEG_2000_COD = b"\xff\x52"


def decode_row(row: Mapping[str, Any], name: str) -> NDArray[np.uint8]:
    """Decode the image of a row.

    Args:
        row: Columns `image` and `pixel_sha256` of a row.
        name: Name of the image for error messages.

    Returns:
        Pixels (H, W, 3), uint8.

    Raises:
        ImageFault: If the image cannot be decoded.
        ValueError: If the row has no bytes, or a lossless image has other pixels than stated.
    """
    data = row["image"]["bytes"]
    if data is None:
        raise ValueError(f"{name} is only a path to an image; embed the image's bytes")
    pixels = decode_rgb(data, name)
    if is_lossless(data) and pixel_sha256(pixels) != row["pixel_sha256"]:
        raise ValueError(
            f"{name} does not have the pixels that its pixel_sha256 names; fetch it again"
        )
    return pixels


def is_lossless(data: bytes) -> bool:
    """Return whether every library decodes an image file to the same pixels.

    These are PNG, BMP, GIF, TIFF without a JPEG or WebP inside, lossless WebP, and JPEG 2000 with
    the reversible transform.

    Args:
        data: Content of an image file that can be decoded.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if image.format == "TIFF":
            return image.info.get("compression") not in _LOSSY_TIFF
        if image.format == "WEBP":
            return b"VP8 " not in _webp_chunks(data)
        if image.format == "JPEG2000":
            at = data.find(_JPEG_2000_COD)
            return data[at + 13 : at + 14] == b"\1"
        return image.format in _LOSSLESS


def _webp_chunks(data: bytes) -> Iterator[bytes]:
    """Yield the names of the chunks of a WebP file."""
    at = 12
    while at + 8 <= len(data):
        yield data[at : at + 4]
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2
