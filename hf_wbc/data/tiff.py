"""Read the directories of TIFF files and of EXIF, in time and memory bounded by the file's size.

Parsers that load every value a directory mentions can be made to load the whole file for each of
its 65,535 entries, and counting pages by loading each one takes quadratic time. Here pages are
counted by following their offsets, and a decoder gets a file of one page with the tags it needs.
"""

import struct
from bisect import bisect_right
from dataclasses import dataclass

MAX_ENTRIES = 1000
"""Most entries in a directory; cameras write fewer than 100."""
MAX_VALUES = 100_000
"""Most numbers in one entry, such as the offsets of strips or tiles."""
MAX_SCANS = 100
"""Most scans of each JPEG in a TIFF, as in libtiff."""

_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_KIND, _WIDTH, _HEIGHT, _COMPRESSION, _ORIENTATION, _EXTRA = 254, 256, 257, 259, 274, 338
_STRIPS, _TILES = (273, 279), (324, 325)
"""Tags of the offsets and the sizes of the pieces of an image."""
_TILE_SIZE = (322, 323)
_NEEDED = frozenset(
    # Sizes, bits, compression, color, planes, predictor, palette, sample format, JPEG, YCbCr.
    (256, 257, 258, 259, 262, 266, 277, 278, 284, 292, 317, 320, 322, 323, 332, 338, 339, 347, 529,
     530, 531, 532, *_STRIPS, *_TILES)
)  # fmt: skip
_JPEG, _OLD_JPEG = 7, 6
_REDUCED = 1
"""Flag of the tag NewSubfileType for a reduced copy of another page."""
_SHORT, _LONG, _LONG8 = 3, 4, 16
_LETTERS = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}
_SIZES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8,
    18: 8,
}  # fmt: skip
"""Bytes of a value of each type."""


class HeaderFault(ValueError):
    """What is wrong with a file, without its name."""


@dataclass(frozen=True)
class Simplified:
    """An image file reduced to what a decoder needs."""

    data: bytes
    orientation: int = 1
    """EXIF orientation 1 to 8 that a decoder of `data` does not apply."""
    has_associated_alpha: bool = False
    """Whether a TIFF states that its colors are multiplied by its alpha channel."""


@dataclass(frozen=True)
class Page:
    """A directory of a TIFF or of EXIF."""

    data: bytes
    order: str
    """Byte order for struct: < or >."""
    values: dict[int, tuple[int, int, int]]
    """Type, number and place of the values of each tag."""

    def integers(self, tag: int) -> tuple[int, ...]:
        """Return the values of a tag of integers; empty without one."""
        kind, num, place = self.values.get(tag, (0, 0, 0))
        if kind not in _LETTERS:
            return ()
        return struct.unpack_from(f"{self.order}{num}{_LETTERS[kind]}", self.data, place)

    def integer(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag."""
        return (self.integers(tag) or (default,))[0]

    @property
    def is_reduced(self) -> bool:
        """Whether it is a reduced copy of another page."""
        return bool(self.integer(_KIND) & _REDUCED)


def is_tiff(data: bytes) -> bool:
    """Return whether the bytes start with the signature of a TIFF or BigTIFF."""
    return data.startswith(_SIGNATURES)


def tiff_pages(data: bytes, at_most: int) -> list[Page]:
    """Return the first `at_most` pages of a TIFF or BigTIFF.

    Raises:
        HeaderFault: If a directory is damaged, or its values do not fit into the file, as when
            thousands of them share the same bytes.
    """
    order = "<" if data.startswith(b"II") else ">"
    is_big = b"+" in data[2:4]
    pages: list[Page] = []
    seen: set[int] = set()
    try:
        (offset,) = struct.unpack_from(order + "IQ"[is_big], data, 8 if is_big else 4)
        while offset and offset not in seen and len(pages) < at_most:
            seen.add(offset)
            page, offset = _page(data, offset, order, is_big=is_big)
            pages.append(page)
    except struct.error as error:
        raise HeaderFault("truncated or damaged (a directory is cut off)") from error
    return pages


def exif_orientation(exif: bytes) -> int:
    """Return the orientation 1 to 8 that EXIF data states; 1 if it states none or is damaged."""
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        pages = tiff_pages(exif, 1) if is_tiff(exif) else []
        return _orientation(pages[0]) if pages else 1
    except (HeaderFault, struct.error):
        return 1


def simplify_tiff(data: bytes) -> Simplified:
    """Return a TIFF of one page with only the tags that determine its pixels.

    Raises:
        HeaderFault: If it has several pages, is damaged, or would take a decoder too long.
    """
    pages = tiff_pages(data, 2)
    if len(pages) != 1:
        raise HeaderFault(
            "animated or of several pages" if pages else "truncated or damaged (it has no page)"
        )
    return simplify_page(pages[0])


def simplify_page(page: Page) -> Simplified:
    """Return one page as a TIFF of its own; see `simplify_tiff`."""
    try:
        return _simplified(page)
    except struct.error as error:
        raise HeaderFault("truncated or damaged (a directory is cut off)") from error


def without_alpha(data: bytes) -> bytes:
    """Return a TIFF of `simplify_page` whose fourth channel has no meaning."""
    (page,) = tiff_pages(data, 1)
    _, _, place = page.values[_EXTRA]
    return data[:place] + bytes(2) + data[place + 2 :]


def _page(data: bytes, offset: int, order: str, *, is_big: bool) -> tuple[Page, int]:
    """Read a directory and the offset of the next one."""
    head, entry, word = ("Q", "HHQ", "Q") if is_big else ("H", "HHI", "I")
    head, entry, word = order + head, order + entry, order + word
    (num,) = struct.unpack_from(head, data, offset)
    if num > MAX_ENTRIES:
        raise HeaderFault(f"truncated or damaged (a directory of {num:,} entries)")
    at, width = offset + struct.calcsize(head), struct.calcsize(word)
    values, total = {}, 0
    for _ in range(num):
        tag, kind, count = struct.unpack_from(entry, data, at)
        at += struct.calcsize(entry)
        num_bytes, place = _SIZES.get(kind, 1) * count, at
        if num_bytes > width:
            (place,) = struct.unpack_from(word, data, at)
            total += num_bytes
        if total > len(data) or (kind in _LETTERS and count > MAX_VALUES):
            raise HeaderFault("truncated or damaged (the values of a directory do not fit)")
        values[tag] = (kind, count, place)
        at += width
    (following,) = struct.unpack_from(word, data, at)
    return Page(data, order, values), following


def _orientation(page: Page) -> int:
    found = page.integer(_ORIENTATION, 1)
    return found if 1 <= found <= 8 else 1


def _simplified(page: Page) -> Simplified:
    tags = _TILES if _TILES[0] in page.values else _STRIPS
    offsets, sizes = page.integers(tags[0]), _piece_sizes(page, *tags)
    compression = page.integer(_COMPRESSION, 1)
    if not offsets or compression == _OLD_JPEG:
        raise HeaderFault("truncated or damaged, or of an outdated kind of TIFF")
    if sum(sizes) > len(page.data):
        raise HeaderFault("truncated or damaged (its parts overlap)")
    width, height = page.integer(_WIDTH), page.integer(_HEIGHT)
    tile = [page.integer(tag) for tag in _TILE_SIZE]
    if tile[0] * tile[1] > max(4 * width * height, 2**22):
        raise HeaderFault("truncated or damaged (its tiles are larger than the image)")
    body = bytearray(8)
    places = []
    for offset, size in zip(offsets, sizes, strict=True):
        places.append(len(body))
        body += page.data[offset : offset + size]
    if compression == _JPEG and body.count(b"\xff\xda") > MAX_SCANS * len(places):
        raise HeaderFault("a JPEG in a TIFF, of so many scans that it takes too long")
    data = _written(page, body, {tags[0]: tuple(places), tags[1]: sizes})
    return Simplified(data, _orientation(page), page.integer(_EXTRA) == 1)


def _piece_sizes(page: Page, offsets_tag: int, sizes_tag: int) -> tuple[int, ...]:
    """Return the bytes of each strip or tile within the file."""
    offsets, sizes = page.integers(offsets_tag), page.integers(sizes_tag)
    end = len(page.data)
    if len(sizes) != len(offsets) or not all(sizes):  # some programs leave them out
        ends = sorted({*offsets, end})
        sizes = tuple(ends[bisect_right(ends, each) % len(ends)] - each for each in offsets)
    return tuple(max(0, min(n, end - o)) for o, n in zip(offsets, sizes, strict=True))


def _written(page: Page, body: bytearray, replaced: dict[int, tuple[int, ...]]) -> bytes:
    """Append the directory to the image data, and write the header."""
    entries = []
    for tag in sorted(_NEEDED & page.values.keys()):
        kind, num, place = page.values[tag]
        raw = page.data[place : place + _SIZES.get(kind, 1) * num]
        if tag in replaced or kind == _LONG8:
            numbers = replaced.get(tag) or page.integers(tag)
            kind, num = _LONG, len(numbers)
            raw = struct.pack(f"{page.order}{num}I", *numbers)
        if len(raw) > 4:
            body += bytes(len(body) % 2)
            entries.append((tag, kind, num, struct.pack(page.order + "I", len(body))))
            body += raw
        else:
            entries.append((tag, kind, num, raw.ljust(4, b"\0")))
    body += bytes(len(body) % 2)
    mark = b"II*\0" if page.order == "<" else b"MM\0*"
    body[:8] = mark + struct.pack(page.order + "I", len(body))
    body += struct.pack(page.order + "H", len(entries))
    for tag, kind, num, value in entries:
        body += struct.pack(page.order + "HHI", tag, kind, num) + value
    body += bytes(4)
    return bytes(body)
