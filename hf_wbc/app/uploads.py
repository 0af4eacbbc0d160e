"""What a person drops on the page, as images: files, a zip of them, the pages of a TIFF.

Nothing is unpacked to a disk, and nothing but pixels is taken: names of patients, places and times
in a file's metadata go no further. Whatever cannot be used is named, in words for someone who
looks at cells and not at file formats.
"""

import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import category

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from hf_wbc.app.limits import LIMITS, Limits
from hf_wbc.data.archive import Archive, open_archive
from hf_wbc.data.image_io import ImageFault, decode_rgb, pixel_sha256

Pixels = NDArray[np.uint8]
NAME_CHARACTERS = 120
_ZIP = b"PK\x03\x04"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_KIND, _REDUCED = 254, 1
"""TIFF's tag of what a page is, and its mark of a smaller copy of another page."""
_SAVE = "save the picture as 8-bit colour PNG or JPEG"
# What a file begins with, at an offset, and what to say of it.
_OTHERS = (
    (0, b"%PDF", f"a PDF document; {_SAVE}"),
    (128, b"DICM", f"a DICOM file; {_SAVE}"),
    (4, b"ftypheic", "a picture of a phone in the format HEIC; set the camera to JPEG"),
    (4, b"ftypheix", "a picture of a phone in the format HEIC; set the camera to JPEG"),
    (4, b"ftypmif1", "a picture of a phone in the format HEIC; set the camera to JPEG"),
    (4, b"ftyp", f"a video; take one picture of it and {_SAVE}"),
    (8, b"AVI ", f"a video; take one picture of it and {_SAVE}"),
    (0, b"\x1aE\xdf\xa3", f"a video; take one picture of it and {_SAVE}"),
    (0, b"7z\xbc\xaf", "a 7z archive; unpack it, or give a zip"),
    (0, b"Rar!", "a RAR archive; unpack it, or give a zip"),
    (0, b"\x1f\x8b", "a gz archive; unpack it, or give a zip"),
    (0, b"\xd0\xcf\x11\xe0", f"an office document; {_SAVE}"),
)
# Part of what the reader of images says, and what to say instead.
_PLAIN = (
    ("zero bytes", "the file is empty; export it again"),
    ("several pages", f"an animation or several pictures; {_SAVE}"),
    ("bits per channel", "{reason}, more than a photograph of a cell has; save it with 8 bits"),
    ("too large", "too many pixels for one cell; cut the cell out, some 400 pixels wide"),
    ("truncated or damaged", "the file is damaged or not whole; export it again"),
    ("no image", "no picture; give PNG, JPEG, TIFF, BMP or WebP"),
)


@dataclass(frozen=True)
class UploadedFile:
    """A file as it came."""

    name: str
    path: Path


@dataclass(frozen=True)
class UploadedImage:
    """One image of a cell, whole and without metadata."""

    name: str
    pixels: Pixels
    """(H, W, 3)."""
    digest: str = field(init=False)
    """The same for the same pixels, whatever their files are."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", pixel_sha256(self.pixels))


@dataclass(frozen=True)
class RejectedFile:
    """A file, or part of one, that cannot be used."""

    name: str
    why: str


@dataclass(frozen=True)
class Uploads:
    """What came of a drop."""

    pictures: tuple[UploadedImage, ...] = ()
    refused: tuple[RejectedFile, ...] = ()


def read_uploads(given: Sequence[UploadedFile], limits: Limits = LIMITS) -> Uploads:
    """The pictures of some files in the order of their names, and what is wrong with the others.

    A file beyond the limits is refused and the others are taken; a drop of too many files is
    refused as a whole, before any of them is read.
    """
    if len(given) > limits.num_cells:
        return Uploads(refused=(RejectedFile(f"{len(given):,} files", _too_many(limits)),))
    pictures: list[UploadedImage] = []
    refused: list[RejectedFile] = []
    num_bytes = 0
    for one in _each(given, limits):
        if isinstance(one, UploadedImage):
            num_bytes += one.pixels.nbytes
            if num_bytes > limits.total_bytes or len(pictures) == limits.num_cells:
                refused.append(RejectedFile(one.name, f"it and what follows: {_too_many(limits)}"))
                break
            pictures.append(one)
        else:
            refused.append(one)
    return Uploads(tuple(pictures), tuple(refused))


def shown_name(name: str) -> str:
    """A file's name without its folders, short enough to be shown, without control characters.

    >>> shown_name("C:\\\\slides\\\\cell 1.png"), shown_name("a\\x1b[31m/b\\u202egnp.exe")
    ('cell 1.png', 'b�gnp.exe')
    """
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2] or "unnamed"
    clean = "".join("�" if category(c) in ("Cc", "Cf", "Cs") else c for c in last)
    if len(clean) <= NAME_CHARACTERS:
        return clean
    return f"{clean[: NAME_CHARACTERS - 12]}…{clean[-11:]}"


def _each(given: Sequence[UploadedFile], limits: Limits) -> Iterator[UploadedImage | RejectedFile]:
    for file in sorted(given, key=lambda file: file.name):
        name = shown_name(file.name)
        try:
            yield from _read(file.path, name, limits)
        except OSError as error:
            yield RejectedFile(name, f"cannot be read ({error.strerror}); drop it again")


def _read(path: Path, name: str, limits: Limits) -> Iterator[UploadedImage | RejectedFile]:
    with path.open("rb") as opened:
        is_zip = opened.read(4) == _ZIP
    if is_zip:
        yield from _read_zip(path, name, limits)
    elif path.stat().st_size > limits.file_bytes:
        yield RejectedFile(name, f"larger than {limits.file_bytes >> 20} MB; cut the cell out")
    else:
        yield from _read_image(path.read_bytes(), name, limits)


def _read_zip(path: Path, name: str, limits: Limits) -> Iterator[UploadedImage | RejectedFile]:
    if (reason := _unfit(path, limits)) is not None:
        yield RejectedFile(name, reason)
        return
    try:
        archive = open_archive(path, path.parent)
    except ValueError as error:
        yield RejectedFile(name, _about_zip(error, path))
        return
    with archive:
        for member in archive.names:
            yield from _read_member(archive, member, name, limits)


def _read_member(
    archive: Archive, member: str, name: str, limits: Limits
) -> Iterator[UploadedImage | RejectedFile]:
    if any(part.startswith(".") for part in member.split("/")):
        return
    try:
        data = archive.read(member)
    except ValueError as error:
        yield RejectedFile(f"{name}: {shown_name(member)}", _about_zip(error, archive.path))
        return
    for one in _read_image(data, shown_name(member), limits):
        yield RejectedFile(f"{name}: {one.name}", one.why) if isinstance(one, RejectedFile) else one


def _unfit(path: Path, limits: Limits) -> str | None:
    """Why a zip is not read at all; its own table says so before anything is unpacked."""
    try:
        with zipfile.ZipFile(path) as file:
            members = [info for info in file.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError):
        return "a damaged zip; make it again"
    if any(info.filename == "[Content_Types].xml" for info in members):
        return f"an office document; {_SAVE}"
    if len(members) > limits.num_cells:
        return f"{len(members):,} files: {_too_many(limits)}"
    if (total := sum(info.file_size for info in members)) > limits.total_bytes:
        return f"unpacks to {total >> 20:,} MB: {_too_many(limits)}"
    if any(info.file_size > limits.file_bytes for info in members):
        return f"holds a file larger than {limits.file_bytes >> 20} MB; cut the cells out"
    return None


def _about_zip(error: ValueError, path: Path) -> str:
    """What is wrong with an archive, without the server's path of it."""
    said = str(error).replace(f"{path}: ", "").replace(str(path), "the zip")
    return said.replace(" and give that", "").replace("fetch it again", "make it again")


def _read_image(data: bytes, name: str, limits: Limits) -> Iterator[UploadedImage | RejectedFile]:
    if (what := _other_kind(data)) is not None:
        yield RejectedFile(name, what)
        return
    try:
        pages = list(_pages(data, name, limits)) if data.startswith(_TIFF) else []
        if len(pages) > 1:
            yield from pages
            return
        _check_size(data, limits)
        yield UploadedImage(name, decode_rgb(data, name))
    except ImageFault as error:
        yield RejectedFile(name, _plainly(str(error).removeprefix(f"{name}: ").partition("; ")[0]))


def _check_size(data: bytes, limits: Limits) -> None:
    """ImageFault before anything that large is decoded; another fault is found later."""
    try:
        width, height = Image.open(io.BytesIO(data)).size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return
    if width * height > limits.num_pixels:
        raise ImageFault("too large")


def _pages(data: bytes, name: str, limits: Limits) -> Iterator[UploadedImage | RejectedFile]:
    """The pages of a TIFF that are no smaller copies of others; nothing for a single one."""
    try:
        image = Image.open(io.BytesIO(data), formats=("TIFF",))
        num_pages = int(getattr(image, "n_frames", 1))
    except Exception:  # Pillow's parsers promise no kind of error; decode_rgb says what it is
        return
    if num_pages == 1:
        return
    if num_pages > limits.num_cells:
        raise ImageFault("too large")
    for page in range(num_pages):
        place = f"{name}, page {page + 1}"
        try:
            image.seek(page)
            assert isinstance(image, TiffImagePlugin.TiffImageFile)
            if int(image.tag_v2.get(_KIND, 0)) & _REDUCED:
                continue
            yield _page(image, place, limits)
        except ImageFault as error:
            yield RejectedFile(place, _plainly(str(error)))
        except Exception:  # as above
            yield RejectedFile(place, _plainly("truncated or damaged"))


def _page(image: TiffImagePlugin.TiffImageFile, place: str, limits: Limits) -> UploadedImage:
    bits = max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    if bits != 8:
        raise ImageFault(f"{bits} bits per channel")
    if image.mode not in ("RGB", "RGBA"):
        raise ImageFault("not in colour" if image.mode in ("1", "L", "LA") else image.mode)
    if image.width * image.height > limits.num_pixels:
        raise ImageFault("too large")
    return UploadedImage(place, np.array(image.convert("RGB")))


def _other_kind(data: bytes) -> str | None:
    """What a file is that is certainly no picture of a cell; None when it may be one."""
    head = data[:1024].lstrip().lower()
    if head.startswith(b"<svg") or (head.startswith((b"<?xml", b"<!--")) and b"<svg" in head):
        return f"an SVG drawing, no photograph; {_SAVE}"
    if head.startswith((b"<!doctype html", b"<html")):
        return f"a web page; {_SAVE}"
    for offset, mark, what in _OTHERS:
        if data[offset : offset + len(mark)] == mark:
            return what
    return None


def _plainly(reason: str) -> str:
    for part, words in _PLAIN:
        if part in reason:
            return words.format(reason=reason)
    return f"{reason}; {_SAVE}"


def _too_many(limits: Limits) -> str:
    return (
        f"more than this page takes at once ({limits.num_cells:,} cells, "
        f"{limits.total_bytes >> 20} MB unpacked); for more there is the command `hf-wbc predict`"
    )


def remove_all(given: Iterable[UploadedFile]) -> None:
    """Delete the files as they came, and the folders that were made for them."""
    for file in given:
        file.path.unlink(missing_ok=True)
        with suppress(OSError):  # it holds others, which come later
            file.path.parent.rmdir()
            file.path.parent.parent.rmdir()
