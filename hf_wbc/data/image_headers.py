"""Inspect image files before a decoder sees them, in time and memory bounded by their size.

Decoders and parsers of metadata trust what a file states of itself. `simplify` reads the structure
of a file, refuses what would take a decoder too long or too much memory, and removes what a decoder
does not need: color profiles, text, previews, and the further pictures of a phone's JPEG.
"""

import math
import re
import struct
from collections.abc import Iterable, Iterator

from hf_wbc.data.tiff import HeaderFault, Simplified, exif_orientation, is_tiff, simplify_tiff

MAX_SCAN_PIXELS = 10**9
"""Largest number of scans of a JPEG times its pixels; a progressive JPEG has about 10 scans."""
MAX_SCANS = 500
MAX_SEGMENTS = 20_000
"""Most segments of a JPEG; all others count as missing."""
MAX_CHUNKS = 50_000
"""Most chunks of a PNG."""
MAX_WEBP_PIXELS = 50_000_000
"""Largest canvas of a WebP: its decoder allocates all of it when a file is opened."""

_EOI, _SOS, _COM = 0xD9, 0xDA, 0xFE
_SOF0 = 0xC0
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_APP0, _APP1, _APP14, _APP15 = 0xE0, 0xE1, 0xEE, 0xEF
# A marker ends the compressed data of a scan, except stuffed bytes, restarts and fill bytes.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_PNG = b"\x89PNG\r\n\x1a\n"


def simplify(data: bytes) -> Simplified:
    """Return a file with the same pixels and without metadata, if its structure is acceptable.

    Args:
        data: Content of an image file in any format; unknown formats are returned unchanged.

    Raises:
        HeaderFault: If decoding would take too long or too much memory, or the file is truncated or
            an animation.
    """
    if is_jpeg(data):
        return _simplify_jpeg(data)
    if data.startswith(_PNG):
        return _simplify_png(data)
    if is_tiff(data):
        return simplify_tiff(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return Simplified(data, _webp_orientation(data))
    return Simplified(data)


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

    The markers that define the color space (JFIF, Adobe) are kept. Of several pictures in one file,
    as phones write them, the first is kept.

    Args:
        data: Content of a JPEG file.

    Raises:
        ValueError: If the JPEG is incomplete.
    """
    return _stripped(_segments(data))


def _stripped(segments: Iterable[tuple[int, bytes]]) -> bytes:
    kept = [b"\xff\xd8"]
    for marker, piece in segments:
        if marker == _APP0 and piece[4:9] == b"JFIF\0" and len(piece) >= 18:
            kept.append(b"\xff\xe0\0\x10" + piece[4:16] + b"\0\0")  # without the thumbnail
        elif marker == _APP14 and piece[4:9] == b"Adobe":
            kept.append(b"\xff\xee\0\x0e" + piece[4:16])
        elif not (_APP0 <= marker <= _APP15 or marker == _COM):
            kept.append(piece)
        if marker == _EOI:
            return b"".join(kept)
    raise HeaderFault("truncated or damaged (it has no end mark)")


def jpeg_orientation(data: bytes) -> int:
    """Return the EXIF orientation 1 to 8 of a JPEG; 1 if it states none."""
    return _orientation(_segments(data))


def _orientation(segments: Iterable[tuple[int, bytes]]) -> int:
    for marker, piece in segments:
        if marker == _APP1 and piece[4:10] == b"Exif\0\0":
            return exif_orientation(piece[10:])
        if marker == _SOS:
            break
    return 1


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each marker with its bytes, and a scan with its compressed data; stop if truncated."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        if at + 2 > len(data) or data[at] != 0xFF:
            return
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


def _simplify_jpeg(data: bytes) -> Simplified:
    segments = list(_segments(data))
    num_scans = sum(marker == _SOS for marker, _ in segments)
    frames = [piece for marker, piece in segments if marker in _FRAMES and len(piece) > 9]
    num_pixels = max((math.prod(struct.unpack(">HH", piece[5:9])) for piece in frames), default=0)
    if num_scans > MAX_SCANS or num_scans * num_pixels > MAX_SCAN_PIXELS:
        raise HeaderFault("a JPEG of so many scans that decoding takes too long")
    return Simplified(_stripped(segments), _orientation(segments))


def _simplify_png(data: bytes) -> Simplified:
    """Keep the chunks that determine the pixels; Pillow would unpack compressed text."""
    kept, orientation, at = [_PNG], 1, len(_PNG)
    for _ in range(MAX_CHUNKS):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data):
            break
        if kind == b"acTL" and length >= 4 and int.from_bytes(data[at + 8 : at + 12], "big") > 1:
            raise HeaderFault("animated or of several pages")
        if kind == b"eXIf":
            orientation = exif_orientation(data[at + 8 : end - 4])
        elif kind == b"tRNS" or not kind[:1].islower():  # a decoder needs no others
            kept.append(data[at:end])
        at = end
        if kind == b"IEND":
            return Simplified(b"".join(kept), orientation)
    else:
        raise HeaderFault("truncated or damaged (a PNG of too many chunks)")
    kept.append(data[at:])  # truncated: the decoder says so
    return Simplified(b"".join(kept), orientation)


def _webp_orientation(data: bytes) -> int:
    """Return the orientation of a WebP; HeaderFault if its canvas is too large."""
    at = 12
    while at + 8 <= len(data):
        kind, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"VP8X":
            sides = data[at + 12 : at + 15], data[at + 15 : at + 18]
            width, height = (1 + int.from_bytes(side, "little") for side in sides)
            if width * height > MAX_WEBP_PIXELS:
                raise HeaderFault(f"too large to be a cell ({width}x{height} px)")
        if kind == b"EXIF":
            return exif_orientation(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2
    return 1
