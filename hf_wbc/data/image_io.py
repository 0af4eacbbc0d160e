"""Strict conversion between image files and 8-bit RGB pixels.

Pillow silently converts 16-bit images, palettes and CMYK, and decodes only the first frame of an
animation. Here, each of these is an error that names the file. Pillow's global settings are not
changed.

Decoders get a file without metadata (`hf_wbc.data.image_headers`), and those of formats with a
complex structure run in a process with limits of time and memory.
"""

import hashlib
import io
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from hf_wbc.data.decode_worker import LimitExceeded, run_limited
from hf_wbc.data.file_kinds import HEIF, NEEDS_HEIF, other_kind, picture_format
from hf_wbc.data.image_headers import (
    is_complete_jpeg,
    is_jpeg,
    jpeg_frame_header,
    jpeg_orientation,
    simplify,
    strip_metadata,
)
from hf_wbc.data.tiff import (
    HeaderFault,
    Simplified,
    exif_orientation,
    simplify_page,
    tiff_pages,
    without_alpha,
)

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".jp2", ".avif", ".heic",
    ".heif",
)  # fmt: skip
"""Lowercase suffixes of image files."""
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "JPEG2000", "AVIF")
"""Formats that Pillow may decode."""
MAX_PIXELS = 50_000_000
"""Largest width x height that is decoded; a frame of a cell has about 10^5 pixels."""
_LIMITED = ("JPEG2000", "AVIF", HEIF)
"""Formats that are decoded in a process of their own."""
_LIMITED_PIXELS = 25_000_000
"""Largest image in one of them, as their decoders take several times its memory."""

STRIP_PIXELS = 2**22
"""Pixels of a decoded image that are converted at a time."""

_AGAIN = "fetch the archive again, or go on without it with --skip-bad"
_CONVERT = "images are 8-bit RGB; take the original file, or go on without it with --skip-bad"
_PNG_END = b"IEND\xaeB`\x82"
_TURNS = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels.swapaxes(0, 1)[::-1, ::-1],
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
"""How to display an image of each EXIF orientation upright."""
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


class ImageFault(ValueError):
    """An image that cannot be used; the message names the file and the remedy."""


def decode_rgb(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a complete 8-bit RGB or RGBA still image; alpha is dropped.

    The EXIF orientation is applied, color profiles are not. Of several pictures that a phone stores
    in one file, the first is decoded.

    Args:
        data: Content of an image file.
        name: Name of the image for error messages.
        max_pixels: Largest width x height.

    Returns:
        Pixels (H, W, 3), uint8.

    Raises:
        ImageFault: If the data is empty, not an image, truncated, damaged, larger than
            `max_pixels`, takes too long to decode, has several frames, or is not 8-bit RGB or RGBA.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, which fills damaged images with grey; "
            "leave it False in this process"
        )
    if picture_format(data) not in _LIMITED:
        return _decode(data, name, max_pixels)
    try:
        pixels: NDArray[np.uint8] = run_limited(_decode, data, name, max_pixels)
    except LimitExceeded as error:
        raise ImageFault(f"{name}: truncated or damaged ({error}); {_AGAIN}") from error
    return pixels


def decode_pages(
    data: bytes, name: str, at_most: int, max_pixels: int = MAX_PIXELS
) -> Iterator[tuple[int, NDArray[np.uint8] | ImageFault]]:
    """Decode the pages of a TIFF one by one, except reduced copies of others.

    Args:
        data: Content of a TIFF file.
        name: Name of the image for error messages.
        at_most: Largest number of pages.
        max_pixels: Largest width x height of a page.

    Yields:
        The number of a page, from 1, and its pixels or what is wrong with it.

    Raises:
        ImageFault: If the pages cannot be told apart, or there are more than `at_most`.
    """
    try:
        pages = tiff_pages(data, at_most + 1)
    except HeaderFault as error:
        raise _fault(name, str(error)) from error
    if len(pages) > at_most:
        raise ImageFault(f"{name}: of more than {at_most:,} pages; {_CONVERT}")
    for number, page in enumerate(pages, 1):
        if page.is_reduced and len(pages) > 1:
            continue
        try:
            yield number, _decode_simplified(simplify_page(page), name, max_pixels)
        except HeaderFault as error:
            yield number, _fault(name, str(error))
        except ImageFault as error:
            yield number, error


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

    The compressed data of an upright baseline RGB JPEG is kept; anything else becomes a PNG.

    Args:
        data: Content of an image file.
        pixels: Pixels (H, W, 3), uint8, decoded from `data`.
    """
    is_plain = is_jpeg(data) and jpeg_frame_header(data) == (True, 8, 3)
    if is_plain and jpeg_orientation(data) == 1:
        return strip_metadata(data)
    return encode_png(pixels)


def image_size(data: bytes, name: str) -> tuple[int, int]:
    """Return width and height of the displayed image; raise ImageFault if it is unreadable."""
    if picture_format(data) in _LIMITED:
        height, width = decode_rgb(data, name).shape[:2]
        return width, height
    found = _simplify(data, name)
    width, height = _open(found.data, name).size
    return (width, height) if found.orientation < 5 else (height, width)


def _decode(data: bytes, name: str, max_pixels: int) -> NDArray[np.uint8]:
    if picture_format(data) == HEIF:
        return _decode_heif(data, name, max_pixels)
    return _decode_simplified(_simplify(data, name), name, max_pixels)


def _simplify(data: bytes, name: str) -> Simplified:
    if not data:
        raise ImageFault(f"{name}: zero bytes; {_AGAIN}")
    if (kind := other_kind(data)) is not None:
        raise ImageFault(f"{name}: {kind.what}; {kind.remedy}, or go on without it with --skip-bad")
    try:
        return simplify(data)
    except HeaderFault as error:
        raise _fault(name, str(error)) from error


def _decode_simplified(found: Simplified, name: str, max_pixels: int) -> NDArray[np.uint8]:
    image = _open(found.data, name)
    _check_pixels(image.size, name, max_pixels, is_costly=image.format in _LIMITED)
    _refuse_other_kinds(image, found.data, name)
    try:
        image.load()
    except Exception as error:  # Pillow does not document the errors of its decoders
        raise ImageFault(f"{name}: truncated or damaged ({error}); {_AGAIN}") from error
    if not _has_end(image, found.data):
        raise ImageFault(f"{name}: truncated or damaged (it has no end mark); {_AGAIN}")
    orientation = found.orientation
    if image.format == "AVIF":
        orientation = exif_orientation(image.info.get("exif", b""))
    if found.has_associated_alpha and image.mode == "RGBA":
        pixels = _undivided(image, found.data, name)
    else:
        del found  # a large file
        pixels = _colors(image)
    del image
    return np.ascontiguousarray(_TURNS[orientation](pixels))


def _colors(image: Image.Image) -> NDArray[np.uint8]:
    """Return the colors (H, W, 3) of an image in mode RGB or RGBA, copied in strips.

    Pillow would take three times the memory of a large image at once.
    """
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    num_rows = max(1, STRIP_PIXELS // max(1, image.width))
    for top in range(0, image.height, num_rows):
        bottom = min(top + num_rows, image.height)
        strip = image.crop((0, top, image.width, bottom))
        pixels[top:bottom] = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    return pixels


def _undivided(image: Image.Image, data: bytes, name: str) -> NDArray[np.uint8]:
    """Return the colors of a TIFF that are multiplied by alpha; where it is 0, as they are stored.

    Some scanners state such a channel and leave it empty.
    """
    rgba = np.asarray(image)
    if rgba[..., 3].all():
        return rgba[..., :3]
    stored = np.asarray(_open(without_alpha(data), name).convert("RGB"))
    return np.where(rgba[..., 3:] == 0, stored, rgba[..., :3])


def _decode_heif(data: bytes, name: str, max_pixels: int) -> NDArray[np.uint8]:
    try:
        import pillow_heif
    except ImportError as error:
        raise ImageFault(f"{name}: {NEEDS_HEIF}; or go on without it with --skip-bad") from error
    try:
        found = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
        picture = found[found.primary_index]
        _check_pixels(picture.size, name, max_pixels, is_costly=True)
        if picture.mode not in ("RGB", "RGBA"):
            raise ImageFault(f"{name}: {_MODES.get(picture.mode, picture.mode)}; {_CONVERT}")
        return np.ascontiguousarray(np.asarray(picture)[..., :3])
    except ImageFault:
        raise
    except Exception as error:  # as for Pillow's decoders
        raise ImageFault(
            f"{name}: a truncated or damaged HEIC photo ({error}); {_AGAIN}"
        ) from error


def _check_pixels(size: tuple[int, int], name: str, at_most: int, *, is_costly: bool) -> None:
    if size[0] * size[1] > (min(at_most, _LIMITED_PIXELS) if is_costly else at_most):
        raise _bomb(name, f"{size[0]}x{size[1]} px", at_most)


def _open(data: bytes, name: str) -> Image.Image:
    """Open an image and read its header without decoding pixels."""
    kind = picture_format(data)
    if kind is None:
        raise ImageFault(
            f"{name}: no image (it begins with {data[:8]!r}); declare it among the source's faults "
            "if the archive has always held it, or go on without it with --skip-bad"
        )
    try:
        return Image.open(io.BytesIO(data), formats=(kind,))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bomb(name, str(error)) from error
    except Exception as error:  # Pillow does not document the errors of its parsers
        if kind == "JPEG" and (header := jpeg_frame_header(data)) and header[1] != 8:
            raise ImageFault(f"{name}: {header[1]} bits per channel; {_CONVERT}") from error
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise ImageFault(f"{name}: a truncated or damaged {kind}{reason}; {_AGAIN}") from error


def _fault(name: str, reason: str) -> ImageFault:
    return ImageFault(f"{name}: {reason}; {_AGAIN if 'damaged' in reason else _CONVERT}")


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
    if image.format == "JPEG2000":
        return _jpeg2000_bits(data)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        stored: Any = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
        return 8 if image.mode in ("1", "P", "L") and max(stored) < 8 else int(max(stored))
    if image.format == "BMP" and image.mode == "RGB":
        is_old = data[14] == 12
        per_pixel = int.from_bytes(data[24:26] if is_old else data[28:30], "little")
        return 8 if per_pixel >= 24 else 5
    return 8


def _jpeg2000_bits(data: bytes) -> int:
    """Return the bits per channel that the SIZ marker states."""
    start = data.index(b"\xff\x4f\xff\x51") + 2
    num = int.from_bytes(data[start + 38 : start + 40], "big")
    return max((each & 0x7F) + 1 for each in data[start + 40 : start + 40 + 3 * min(num, 4) : 3])


def _bomb(name: str, size: str, at_most: int = MAX_PIXELS) -> ImageFault:
    return ImageFault(
        f"{name}: too large to be a cell ({size}, at most {at_most:,} px): a decompression bomb "
        f"or another kind of file; {_AGAIN}"
    )
