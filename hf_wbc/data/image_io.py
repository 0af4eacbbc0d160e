"""Strict conversion between image files and 8-bit RGB pixels.

Pillow silently converts 16-bit images, palettes and CMYK, and decodes only the first frame of an
animation. Here, each of these is an error that names the file. Pillow's global settings are not
changed.

The metadata of a JPEG is removed without recompression, so that the pixels stay the same.
"""

import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")
"""Lowercase suffixes of image files."""
_EOI, _SOS, _COM = 0xD9, 0xDA, 0xFE
_SOF0 = 0xC0
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_APP0, _APP14, _APP15 = 0xE0, 0xEE, 0xEF
# A marker ends the compressed data of a scan, except stuffed bytes, restarts and fill bytes.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def is_jpeg(data: bytes) -> bool:
    """Return whether the bytes start with a JPEG signature."""
    return data.startswith(b"\xff\xd8\xff")


def is_complete_jpeg(data: bytes) -> bool:
    """Return whether all segments and scans are present, up to the end-of-image marker."""
    return any(marker == _EOI for marker, _ in _segments(data))


def jpeg_frame_header(data: bytes) -> tuple[bool, int, int] | None:
    """Return whether a JPEG is baseline, its bits per channel and its number of channels.

    Returns None if there is no frame header.
    """
    for marker, piece in _segments(data):
        if marker in _FRAMES and len(piece) > 9:
            return marker == _SOF0, piece[4], piece[9]
    return None


def strip_metadata(data: bytes) -> bytes:
    """Remove EXIF, XMP, color profile, comments, thumbnails and trailing bytes from a JPEG.

    The markers that define the color space (JFIF, Adobe) are kept.

    Args:
        data: Content of a JPEG file.

    Raises:
        ValueError: If the JPEG is incomplete.
    """
    kept = [b"\xff\xd8"]
    for marker, piece in _segments(data):
        if marker == _APP0 and piece[4:9] == b"JFIF\0" and len(piece) >= 18:
            kept.append(b"\xff\xe0\0\x10" + piece[4:16] + b"\0\0")  # without the thumbnail
        elif marker == _APP14 and piece[4:9] == b"Adobe":
            kept.append(b"\xff\xee\0\x0e" + piece[4:16])
        elif not (_APP0 <= marker <= _APP15 or marker == _COM):
            kept.append(piece)
        if marker == _EOI:
            return b"".join(kept)
    raise ValueError("the JPEG has no end")


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each marker with its bytes, and a scan with its compressed data; stop if truncated."""
    at = 2
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == _EOI:
            yield marker, data[at : at + 2]
            return
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if end < at + 4 or end > len(data):
            return
        if marker == _SOS:
            after = _MARKER.search(data, end)
            if after is None:
                return
            end = after.start()
        yield marker, data[at:end]
        at = end


FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")
"""Formats that Pillow may decode."""
MAX_PIXELS = 50_000_000
"""Largest width x height that is decoded; a frame of a cell has about 10^5 pixels."""

_AGAIN = "fetch the archive again, or go on without it with --skip-bad"
_CONVERT = "images are 8-bit RGB; take the original file, or go on without it with --skip-bad"
_PNG_END = b"IEND\xaeB`\x82"
_MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey with alpha",
    "La": "grey with alpha",
    "P": "a palette image",
    "PA": "a palette image",
    "CMYK": "CMYK",
    "I": "32-bit grey",
    "F": "32-bit floating point",
    "I;16": "16-bit grey",
}
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"GIF8": "GIF",
    b"RIFF": "WebP",
    b"BM": "BMP",
}


class ImageFault(ValueError):
    """An image that cannot be used; the message names the file and the remedy."""


def decode_rgb(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode a complete 8-bit RGB or RGBA still image; alpha is dropped.

    Color profiles and the EXIF orientation are not applied: the orientation of a cell has no
    meaning.

    Args:
        data: Content of an image file.
        name: Name of the image for error messages.

    Returns:
        Pixels (H, W, 3), uint8.

    Raises:
        ImageFault: If the data is empty, not an image, truncated, damaged, larger than
            `MAX_PIXELS`, has several frames, or is not 8-bit RGB or RGBA.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, which fills damaged images with grey; "
            "leave it False in this process"
        )
    image = _open(data, name)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _bomb(name, f"{width}x{height} px")
    _refuse_other_kinds(image, data, name)
    try:
        image.load()
    except Exception as error:  # Pillow does not document the errors of its decoders
        raise ImageFault(f"{name}: truncated or damaged ({error}); {_AGAIN}") from error
    if not _has_end(image, data):
        raise ImageFault(f"{name}: truncated or damaged (it has no end mark); {_AGAIN}")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode pixels (H, W, 3), uint8, as a PNG without metadata."""
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    buffer = io.BytesIO()
    # Run-length encoding: for stained cells as small as Pillow's default, in a third of the time.
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def pixel_sha256(pixels: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of the pixels, `sha256(numpy.asarray(rgb_image).tobytes())`."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def clean_bytes(data: bytes, pixels: NDArray[np.uint8]) -> bytes:
    """Return an image file with exactly the given pixels and without metadata.

    The compressed data of a baseline RGB JPEG is kept; anything else becomes a PNG.

    Args:
        data: Content of an image file.
        pixels: Pixels (H, W, 3), uint8, decoded from `data`.
    """
    if is_jpeg(data) and jpeg_frame_header(data) == (True, 8, 3):
        return strip_metadata(data)
    return encode_png(pixels)


def image_size(data: bytes, name: str) -> tuple[int, int]:
    """Return width and height from the file's header; raise ImageFault if it is unreadable."""
    return _open(data, name).size


def _open(data: bytes, name: str) -> Image.Image:
    """Open an image and read its header without decoding pixels."""
    if not data:
        raise ImageFault(f"{name}: zero bytes; {_AGAIN}")
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bomb(name, str(error)) from error
    except Exception as error:  # Pillow does not document the errors of its parsers
        kind = next((kind for head, kind in _SIGNATURES.items() if data.startswith(head)), None)
        if kind == "JPEG" and (header := jpeg_frame_header(data)) and header[1] != 8:
            raise ImageFault(f"{name}: {header[1]} bits per channel; {_CONVERT}") from error
        if kind:
            reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
            raise ImageFault(f"{name}: a truncated or damaged {kind}{reason}; {_AGAIN}") from error
        raise ImageFault(
            f"{name}: no image (it begins with {data[:8]!r}); declare it among the source's faults "
            "if the archive has always held it, or go on without it with --skip-bad"
        ) from error


def _has_end(image: Image.Image, data: bytes) -> bool:
    """Return whether the end marker is present, for formats that have one.

    A file of the correct length that was only partly written still decodes, because zeros are valid
    JPEG data.
    """
    if image.format == "JPEG":
        return is_complete_jpeg(data)
    return image.format != "PNG" or _PNG_END in data


def _refuse_other_kinds(image: Image.Image, data: bytes, name: str) -> None:
    try:
        num_frames = getattr(image, "n_frames", 1)
        bits = _bits_per_channel(image, data)
    except Exception as error:  # undocumented, as above; these read more of the file
        raise ImageFault(f"{name}: truncated or damaged ({error}); {_AGAIN}") from error
    if num_frames != 1:
        raise ImageFault(f"{name}: animated or of several pages ({num_frames}); {_CONVERT}")
    if bits != 8:
        raise ImageFault(f"{name}: {bits} bits per channel; {_CONVERT}")
    if image.mode not in ("RGB", "RGBA"):
        what = _MODES.get(image.mode, f"of the kind {image.mode}")
        raise ImageFault(f"{name}: {what}; {_CONVERT}")


def _bits_per_channel(image: Image.Image, data: bytes) -> int:
    """Return the bits per channel as stored: Pillow opens a 16-bit RGB PNG in mode `RGB`."""
    if image.format == "PNG":
        return 8 if image.mode in ("1", "P") else data[24]
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        stored: Any = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
        return 8 if image.mode in ("1", "P", "L") and max(stored) < 8 else int(max(stored))
    if image.format == "BMP" and image.mode == "RGB":
        is_old = data[14] == 12
        per_pixel = int.from_bytes(data[24:26] if is_old else data[28:30], "little")
        return 8 if per_pixel >= 24 else 5
    return 8


def _bomb(name: str, size: str) -> ImageFault:
    return ImageFault(
        f"{name}: too large to be a cell ({size}, at most {MAX_PIXELS:,} px): a decompression bomb "
        f"or another kind of file; {_AGAIN}"
    )
