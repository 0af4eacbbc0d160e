"""Recognize files by their first bytes: images, and what people take for images."""

from dataclasses import dataclass

HEIF = "HEIF"
NEEDS_HEIF = (
    "a HEIC photo from a phone, which needs the extra heif: pip install 'hf_wbc[heif]'; or save it "
    "as PNG or JPEG"
)
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
)
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), HEIF),
}
"""Formats of ISO media files by brand; other brands are videos."""
_SAVE = "save the picture as 8-bit color PNG or JPEG"


@dataclass(frozen=True)
class OtherKind:
    """A file that is certainly not an image of a cell."""

    what: str
    remedy: str


LFS_MARK = b"version https://git-lfs"
"""First bytes of a Git LFS pointer."""
LFS_POINTER = OtherKind(
    "a Git LFS pointer instead of the file itself",
    "run `git lfs pull` in the repository it comes from",
)
_OTHERS = (
    (0, LFS_MARK, LFS_POINTER),
    (0, b"GIF8", OtherKind("a GIF: an animation, or a palette image of few colors", _SAVE)),
    (0, b"%PDF", OtherKind("a PDF document", _SAVE)),
    (128, b"DICM", OtherKind("a DICOM file", _SAVE)),
    (4, b"ftyp", OtherKind("a video", f"export one frame and {_SAVE}")),
    (8, b"AVI ", OtherKind("a video", f"export one frame and {_SAVE}")),
    (0, b"\x1aE\xdf\xa3", OtherKind("a video", f"export one frame and {_SAVE}")),
    (0, b"7z\xbc\xaf", OtherKind("a 7z archive", "unpack it, or give a zip")),
    (0, b"Rar!", OtherKind("a RAR archive", "unpack it, or give a zip")),
    (0, b"\x1f\x8b", OtherKind("a gz archive", "unpack it, or give a zip")),
    (0, b"\xd0\xcf\x11\xe0", OtherKind("an office document", _SAVE)),
)


def picture_format(data: bytes) -> str | None:
    """Return Pillow's name of the format of an image file, `HEIF` for one that Pillow cannot read.

    >>> picture_format(b"BM..."), picture_format(b"%PDF-1.7")
    ('BMP', None)
    """
    if data[4:8] == b"ftyp":
        brands = [data[8:12], *(data[at : at + 4] for at in range(16, 64, 4))]
        found = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
        is_picture = data[8:12] in _BRANDS
        return ("AVIF" if "AVIF" in found else HEIF) if is_picture else None
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for mark, kind in _SIGNATURES if data.startswith(mark)), None)


def other_kind(data: bytes) -> OtherKind | None:
    """Describe a file that is certainly not an image of a cell; None if it may be one."""
    if picture_format(data) is not None:
        return None
    head = data[:1024].lstrip().lower()
    if head.startswith(b"<svg") or (head.startswith((b"<?xml", b"<!--")) and b"<svg" in head):
        return OtherKind("an SVG drawing", _SAVE)
    if head.startswith((b"<!doctype html", b"<html")):
        return OtherKind("a web page", _SAVE)
    for offset, mark, kind in _OTHERS:
        if data[offset : offset + len(mark)] == mark:
            return kind
    return None
