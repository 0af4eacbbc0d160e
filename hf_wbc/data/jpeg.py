"""JPEG without its metadata: the same compressed pixels, so nothing is lost a second time."""

import re
from collections.abc import Iterator

_EOI, _SOS, _COM = 0xD9, 0xDA, 0xFE
_SOF0 = 0xC0
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_APP0, _APP14, _APP15 = 0xE0, 0xEE, 0xEF
# What ends the compressed data of a scan: any marker but a stuffed byte, a restart or a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def is_jpeg(data: bytes) -> bool:
    """Whether the bytes begin as a JPEG does."""
    return data.startswith(b"\xff\xd8\xff")


def is_whole(data: bytes) -> bool:
    """Whether every segment and scan is there, up to the mark of the end."""
    return any(marker == _EOI for marker, _ in _segments(data))


def frame_header(data: bytes) -> tuple[bool, int, int] | None:
    """(is baseline, bits per channel, number of channels); None when there is none."""
    for marker, piece in _segments(data):
        if marker in _FRAMES and len(piece) > 9:
            return marker == _SOF0, piece[4], piece[9]
    return None


def strip_metadata(data: bytes) -> bytes:
    """The JPEG without EXIF, XMP, colour profile, comments, thumbnails and trailing bytes.

    What tells the decoder the colour space (JFIF, Adobe) stays. ValueError when it is not whole.
    """
    kept = [b"\xff\xd8"]
    for marker, piece in _segments(data):
        if marker == _APP0 and piece[4:9] == b"JFIF\0" and len(piece) >= 18:
            kept.append(b"\xff\xe0\0\x10" + piece[4:16] + b"\0\0")  # without its thumbnail
        elif marker == _APP14 and piece[4:9] == b"Adobe":
            kept.append(b"\xff\xee\0\x0e" + piece[4:16])
        elif not (_APP0 <= marker <= _APP15 or marker == _COM):
            kept.append(piece)
        if marker == _EOI:
            return b"".join(kept)
    raise ValueError("the JPEG has no end")


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Each marker with its bytes, a scan with its compressed data; ends early where it is cut."""
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
