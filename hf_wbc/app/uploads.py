"""Read uploads as images: files, zips, and TIFFs with several pages.

Nothing is unpacked to disk, and only pixels are read: names of patients, places and times in the
metadata are dropped. Files that cannot be used are listed with the reason, in words for people who
know cells and not file formats.
"""

import io
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
from hf_wbc.data.image_io import ImageFault, decode_rgb, image_size, pixel_sha256

Pixels = NDArray[np.uint8]
NAME_CHARACTERS = 120
_ZIP = b"PK\x03\x04"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_KIND, _REDUCED = 254, 1
"""TIFF tag NewSubfileType, and its flag for a reduced copy of another page."""
_SAVE = "save the picture as 8-bit colour PNG or JPEG"
# Offset, magic bytes, and the reason to reject the file.
_OTHERS = (
    (0, b"%PDF", f"a PDF document; {_SAVE}"),
    (128, b"DICM", f"a DICOM file; {_SAVE}"),
    (4, b"ftypheic", "a HEIC photo from a phone; set the camera to JPEG"),
    (4, b"ftypheix", "a HEIC photo from a phone; set the camera to JPEG"),
    (4, b"ftypmif1", "a HEIC photo from a phone; set the camera to JPEG"),
    (4, b"ftyp", f"a video; export one frame and {_SAVE}"),
    (8, b"AVI ", f"a video; export one frame and {_SAVE}"),
    (0, b"\x1aE\xdf\xa3", f"a video; export one frame and {_SAVE}"),
    (0, b"7z\xbc\xaf", "a 7z archive; unpack it, or upload a zip"),
    (0, b"Rar!", "a RAR archive; unpack it, or upload a zip"),
    (0, b"\x1f\x8b", "a gz archive; unpack it, or upload a zip"),
    (0, b"\xd0\xcf\x11\xe0", f"an office document; {_SAVE}"),
)
_DAMAGED = "truncated or damaged"
# Part of the image reader's message, and the message to show instead.
_PLAIN = (
    ("zero bytes", "the file is empty; export it again"),
    ("several pages", f"an animation or several pictures; {_SAVE}"),
    ("bits per channel", "{reason} are not supported; save the picture with 8 bits per channel"),
    ("too large", "too many pixels for one cell; cut the cell out, some 400 pixels wide"),
    (_DAMAGED, "the file is damaged or incomplete; export it again"),
    ("no image", "not an image; upload PNG, JPEG, TIFF, BMP or WebP"),
)


@dataclass(frozen=True)
class UploadedFile:
    """An uploaded file."""

    name: str
    path: Path


@dataclass(frozen=True)
class UploadedImage:
    """One decoded image, without metadata."""

    name: str
    pixels: Pixels
    """RGB, (H, W, 3), uint8."""
    digest: str = field(init=False)
    """SHA-256 of the pixels, independent of the file format."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", pixel_sha256(self.pixels))


@dataclass(frozen=True)
class RejectedFile:
    """A file, or a part of one, that cannot be used, with the reason."""

    name: str
    why: str


@dataclass(frozen=True)
class Uploads:
    """The result of one upload."""

    pictures: tuple[UploadedImage, ...] = ()
    refused: tuple[RejectedFile, ...] = ()


def read_uploads(given: Sequence[UploadedFile], limits: Limits = LIMITS) -> Uploads:
    """Read the images of uploaded files, in the order of their names.

    A file beyond the limits is rejected and the others are accepted. An upload with too many
    files is rejected as a whole before any of them is read.
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
    r"""A file name for display: without folders and control characters, and shortened.

    >>> shown_name("C:\\slides\\cell 1.png"), shown_name("a\x1b[31m/b\u202egnp.exe")
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
            yield RejectedFile(name, f"cannot be read ({error.strerror}); upload it again")
        except Exception:  # whatever one file raises, the others are read
            yield RejectedFile(name, _plainly(_DAMAGED))


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
    try:
        archive = open_archive(path, path.parent)
    except ValueError as error:
        yield RejectedFile(name, _zip_error(error, path))
        return
    if (reason := _unfit(archive, limits)) is not None:
        yield RejectedFile(name, reason)
        return
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
        yield RejectedFile(f"{name}: {shown_name(member)}", _zip_error(error, archive.path))
        return
    for one in _read_image(data, shown_name(member), limits):
        yield RejectedFile(f"{name}: {one.name}", one.why) if isinstance(one, RejectedFile) else one


def _unfit(archive: Archive, limits: Limits) -> str | None:
    """The reason to reject a zip by its directory, before anything is unpacked; else None."""
    if "[Content_Types].xml" in archive.names:
        return f"an office document; {_SAVE}"
    if len(archive.names) > limits.num_cells:
        return f"{len(archive.names):,} files: {_too_many(limits)}"
    if (total := sum(archive.num_bytes.values())) > limits.total_bytes:
        return f"unpacks to {total >> 20:,} MB: {_too_many(limits)}"
    if max(archive.num_bytes.values()) > limits.file_bytes:
        return f"holds a file larger than {limits.file_bytes >> 20} MB; cut the cells out"
    return None


def _zip_error(error: ValueError, path: Path) -> str:
    """The error about an archive without the server's path."""
    said = str(error).replace(f"{path}: ", "").replace(str(path), "the zip")
    if "truncated or damaged" in said or "cannot be read" in said:
        return "a damaged zip; create it again"
    return said.replace(" and give that", "").replace("fetch it again", "create it again")


def _read_image(data: bytes, name: str, limits: Limits) -> Iterator[UploadedImage | RejectedFile]:
    if (what := _other_kind(data)) is not None:
        yield RejectedFile(name, what)
        return
    try:
        pages = list(_pages(data, name, limits)) if data.startswith(_TIFF) else []
        if len(pages) > 1:
            yield from pages
            return
        _check_size(data, name, limits)
        yield UploadedImage(name, decode_rgb(data, name))
    except ImageFault as error:
        yield RejectedFile(name, _plainly(str(error).removeprefix(f"{name}: ").partition("; ")[0]))
    except Exception:  # whatever a decoder raises, the other files are read
        yield RejectedFile(name, _plainly(_DAMAGED))


def _check_size(data: bytes, name: str, limits: Limits) -> None:
    """Raise ImageFault for a too large image before decoding."""
    width, height = image_size(data, name)
    if width * height > limits.num_pixels:
        raise ImageFault("too large")


def _pages(data: bytes, name: str, limits: Limits) -> Iterator[UploadedImage | RejectedFile]:
    """Yield the pages of a TIFF, except reduced copies; nothing if there is only one page."""
    try:
        image = Image.open(io.BytesIO(data), formats=("TIFF",))
        num_pages = int(getattr(image, "n_frames", 1))
    except Exception:  # Pillow's parsers raise any type; decode_rgb reports the fault
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
            yield RejectedFile(place, _plainly(_DAMAGED))


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
    """Describe a file that is certainly not an image of a cell; None if it may be one."""
    head = data[:1024].lstrip().lower()
    if head.startswith(b"<svg") or (head.startswith((b"<?xml", b"<!--")) and b"<svg" in head):
        return f"an SVG drawing; {_SAVE}"
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
        f"more than this page accepts at once ({limits.num_cells:,} cells, "
        f"{limits.total_bytes >> 20} MB unpacked); use the command `hf-wbc predict` for more"
    )


def remove_all(given: Iterable[UploadedFile]) -> None:
    """Delete uploaded files and the folders that were created for them."""
    for file in given:
        file.path.unlink(missing_ok=True)
        with suppress(OSError):  # the folder still holds other files
            file.path.parent.rmdir()
            file.path.parent.parent.rmdir()
