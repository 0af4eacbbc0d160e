"""Bytes to 8-bit RGB pixels and back, refusing whatever would have to be guessed.

Pillow converts 16-bit images, palettes and CMYK without a word and decodes only the first frame of
an animation. Here each of these is an error that names the file. Nothing of Pillow is reconfigured.
"""

import hashlib
import io
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from hf_wbc.data import jpeg

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")
MAX_PIXELS = 50_000_000
"""Width x height beyond which a header is not believed: a cell's frame has some 10^5 pixels."""

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
    """An image that cannot become a row; the message names the file and the remedy."""


def decode_rgb(data: bytes, name: str) -> NDArray[np.uint8]:
    """The pixels (H, W, 3), uint8, of one whole still image; an alpha channel is dropped.

    Colour profiles and EXIF's orientation are not applied: a cell has no upside. ImageFault for
    zero bytes, no image, truncated or damaged data, more than `MAX_PIXELS`, several frames, and
    anything but 8-bit RGB or RGBA.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ValueError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, which fills damaged images with grey; "
            "leave it False in this process"
        )
    if not data:
        raise ImageFault(f"{name}: zero bytes; {_AGAIN}")
    image = _open(data, name)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _bomb(name, f"{width}x{height} px")
    _refuse_other_kinds(image, data, name)
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders promise no kind of error
        raise ImageFault(f"{name}: truncated or damaged ({error}); {_AGAIN}") from error
    if not _has_end(image, data):
        raise ImageFault(f"{name}: truncated or damaged (it has no end mark); {_AGAIN}")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels (H, W, 3), uint8, as a PNG without metadata."""
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    buffer = io.BytesIO()
    # Run lengths alone: on stained cells as small as Pillow's default, in a third of its time.
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def pixel_sha256(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of the pixels' bytes, row by row: `sha256(numpy.asarray(rgb_image).tobytes())`."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def clean_bytes(data: bytes, pixels: NDArray[np.uint8]) -> bytes:
    """An image file of exactly these pixels without metadata; `pixels` is what `data` decodes to.

    The source's own compressed data when it is a baseline RGB JPEG, a PNG of the pixels otherwise.
    """
    if jpeg.is_jpeg(data) and jpeg.frame_header(data) == (True, 8, 3):
        return jpeg.strip_metadata(data)
    return encode_png(pixels)


def size_of(data: bytes, name: str) -> tuple[int, int]:
    """Width and height by the file's header; ImageFault where that cannot be read."""
    return _open(data, name).size


def _open(data: bytes, name: str) -> Image.Image:
    """The image with its header read and nothing decoded."""
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bomb(name, str(error)) from error
    except MemoryError:
        raise
    except Exception as error:  # Pillow's parsers promise no kind of error
        kind = next((kind for head, kind in _SIGNATURES.items() if data.startswith(head)), None)
        if kind == "JPEG" and (header := jpeg.frame_header(data)) and header[1] != 8:
            raise ImageFault(f"{name}: {header[1]} bits per channel; {_CONVERT}") from error
        if kind:
            reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
            raise ImageFault(f"{name}: a truncated or damaged {kind}{reason}; {_AGAIN}") from error
        raise ImageFault(
            f"{name}: no image (it begins with {data[:8]!r}); declare it among the source's faults "
            "if the archive has always held it, or go on without it with --skip-bad"
        ) from error


def _has_end(image: Image.Image, data: bytes) -> bool:
    """Whether the mark of the end is there, in the formats that have one.

    A file of the right length whose rest was never written decodes: zeros are valid JPEG data.
    """
    if image.format == "JPEG":
        return jpeg.is_whole(data)
    return image.format != "PNG" or _PNG_END in data


def _refuse_other_kinds(image: Image.Image, data: bytes, name: str) -> None:
    try:
        num_frames = getattr(image, "n_frames", 1)
        bits = _bits_per_channel(image, data)
    except Exception as error:  # as above: they read on in the file
        raise ImageFault(f"{name}: truncated or damaged ({error}); {_AGAIN}") from error
    if num_frames != 1:
        raise ImageFault(f"{name}: animated or of several pages ({num_frames}); {_CONVERT}")
    if bits != 8:
        raise ImageFault(f"{name}: {bits} bits per channel; {_CONVERT}")
    if image.mode not in ("RGB", "RGBA"):
        what = _MODES.get(image.mode, f"of the kind {image.mode}")
        raise ImageFault(f"{name}: {what}; {_CONVERT}")


def _bits_per_channel(image: Image.Image, data: bytes) -> int:
    """As the file says it: Pillow's mode does not, it opens a 16-bit RGB PNG as `RGB`."""
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
