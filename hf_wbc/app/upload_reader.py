"""Read one uploaded file: an image, a zip, or a TIFF with several pages.

These functions run in a worker process, because a file may come from anyone. Nothing is unpacked to
disk, and only pixels are read: names of patients, places and times in the metadata are dropped.
"""

from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain, islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Self
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from hf_wbc.app.limits import Limits
from hf_wbc.data.archive import Archive, open_archive
from hf_wbc.data.file_kinds import other_kind
from hf_wbc.data.image_io import ImageFault, decode_pages, decode_rgb, pixel_sha256
from hf_wbc.data.nucleus import Nucleus, find_nucleus
from hf_wbc.data.red_cells import red_cell_diameters
from hf_wbc.data.tiff import is_tiff
from hf_wbc.escape import public_message

Pixels = NDArray[np.uint8]
NAME_CHARACTERS = 120
MEASURED_PIXELS = 2**20
"""Largest image that is measured where it is read, within the time limit of one file."""
STORED = "pixels-"
"""Start of the names of files that hold pixels."""
_ZIP = b"PK\x03\x04"
_SAVE = "save the picture as 8-bit color PNG or JPEG"
_SMALLER = "save it as JPEG or PNG, or cut it into parts"
_DAMAGED = "truncated or damaged"
# Part of the image reader's message, and the message to show instead.
_PLAIN = (
    ("zero bytes", "the file is empty; export it again"),
    ("several pages", f"an animation or several pictures; {_SAVE}"),
    ("bits per channel", "{reason} are not supported; save the picture with 8 bits per channel"),
    ("too large", "more than 100 megapixels; cut it into parts, or use `hf-wbc find` for slides"),
    ("too long", f"the picture takes too long to decode; {_SAVE}"),
    ("HEIC", "a HEIC photo from a phone; set the camera to JPEG"),
    (_DAMAGED, "the file is damaged or incomplete; export it again"),
    ("no image", "not an image; upload PNG, JPEG, TIFF, BMP or WebP"),
)


@dataclass(frozen=True, eq=False)
class FieldOrigin:
    """Where in an uploaded field of view a cell was found."""

    picture: "UploadedImage"
    """The whole field."""
    number: int
    """Number of the cell in its field, from 1."""
    x_px: float
    """Center of the nucleus from the left, in pixels of the field."""
    y_px: float
    """Center of the nucleus from the top."""
    flags: tuple[str, ...] = ()
    """What the finder says of the crop, see `hf_wbc.finder.detect_cells.FLAGS`."""


@dataclass(frozen=True)
class UploadedImage:
    """One decoded image, without metadata."""

    name: str
    pixels: Pixels
    """RGB, (H, W, 3), uint8."""
    origin: FieldOrigin | None = None
    """For a cell that was found in a field, its place there."""
    digest: str = field(init=False)
    """SHA-256 of the pixels, independent of the file format."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", pixel_sha256(self.pixels))

    @cached_property
    def nucleus(self) -> Nucleus | None:
        """The nucleus nearest to the center."""
        return find_nucleus(self.pixels)

    @cached_property
    def red_cells(self) -> list[float]:
        """Diameters of the round red cells in pixels, which show the scale."""
        return red_cell_diameters(self.pixels)

    def with_pixels(self, pixels: Pixels) -> "UploadedImage":
        """Return the same image with its pixels in another place; the digest is not computed."""
        other = copy(self)
        object.__setattr__(other, "pixels", pixels)
        return other

    def measured(self) -> "UploadedImage":
        """Measure here what shows the scale, unless the image is much larger than a cell's."""
        if self.pixels.shape[0] * self.pixels.shape[1] <= MEASURED_PIXELS:
            _ = self.nucleus, self.red_cells
        return self

    @property
    def whole(self) -> "UploadedImage":
        """What was uploaded: this image or, for a cell that was found in a field, the field."""
        return self if self.origin is None else self.origin.picture


@dataclass(frozen=True)
class StoredImage:
    """A large image on its way from a worker process, which has written the pixels to a file.

    The page maps the file: what it does not read takes no memory.
    """

    image: UploadedImage
    """The image without pixels."""
    path: Path
    shape: tuple[int, ...]

    @classmethod
    def of(cls, image: UploadedImage, folder: Path) -> Self:
        """Write the pixels of an image to a new file."""
        with NamedTemporaryFile(dir=folder, prefix=STORED, delete=False) as file:
            file.write(np.ascontiguousarray(image.pixels).data)
        empty = image.with_pixels(np.empty((0, 0, 3), np.uint8))
        return cls(empty, Path(file.name), image.pixels.shape)

    def mapped(self) -> UploadedImage:
        """Map the file, and remove its name: it is deleted with the last array that uses it."""
        pixels = np.memmap(self.path, np.uint8, "r", shape=self.shape)
        with suppress(OSError):  # where a file in use keeps its name, the folder is deleted later
            self.path.unlink()
        return self.image.with_pixels(pixels)


@dataclass(frozen=True)
class RejectedFile:
    """A file, or a part of one, that cannot be used, with the reason."""

    name: str
    why: str


Found = UploadedImage | StoredImage | RejectedFile
"""What is read from a file, as a worker process returns it."""


def list_parts(path: Path, name: str, limits: Limits) -> tuple[str | None, ...] | RejectedFile:
    """Return the names of a zip's members; (None,) for any other file."""
    with path.open("rb") as opened:
        is_zip = opened.read(4) == _ZIP
    if is_zip:
        return _zip_members(path, name, limits)
    if path.stat().st_size > limits.file_bytes:
        return RejectedFile(name, f"larger than {limits.file_bytes >> 20} MB; {_SMALLER}")
    return (None,)


def read_part(
    path: Path, name: str, member: str | None, limits: Limits, measures: bool = False
) -> list[Found]:
    """Read a file, or a member of a zip: one image, or the pages of a TIFF.

    The pixels of large images are written to files in the same folder.

    Args:
        path: The file.
        name: Its name as uploaded.
        member: The member of a zip; None for another file.
        limits: What is accepted.
        measures: Also measure the images' scale here, which takes most of the time of a prediction.
    """
    found = _read_member(path, name, member, limits)
    if not measures:
        return found
    return [one.measured() if isinstance(one, UploadedImage) else one for one in found]


def _read_member(path: Path, name: str, member: str | None, limits: Limits) -> list[Found]:
    if member is None:
        images = _read_image(path.read_bytes(), name, limits)
        return [_stored(one, path.parent, limits) for one in images]
    try:
        data = _archive(path).read(member)
    except ValueError as error:
        return [RejectedFile(f"{name}: {shown_name(member)}", _zip_error(error, path))]
    return [
        RejectedFile(f"{name}: {one.name}", one.why)
        if isinstance(one, RejectedFile)
        else _stored(one, path.parent, limits)
        for one in _read_image(data, shown_name(member), limits)
    ]


def _stored(one: UploadedImage | RejectedFile, folder: Path, limits: Limits) -> Found:
    """Write the pixels of a large image to a file."""
    if isinstance(one, RejectedFile) or one.pixels.nbytes <= 3 * limits.stored_pixels:
        return one
    return StoredImage.of(one, folder)


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


@lru_cache(maxsize=1)
def _archive(path: Path) -> Archive:
    """The zip whose members are being read."""
    return open_archive(path, path.parent, undecided="cp437")


def _zip_members(path: Path, name: str, limits: Limits) -> tuple[str, ...] | RejectedFile:
    try:
        _archive.cache_clear()
        archive = _archive(path)
    except ValueError as error:
        return RejectedFile(name, _zip_error(error, path))
    if archive.unreadable_names and not archive.names:
        return RejectedFile(name, "its file names are not text; rename the files")
    if (reason := _unfit(archive, limits)) is not None:
        return RejectedFile(name, reason)
    return archive.names


def _unfit(archive: Archive, limits: Limits) -> str | None:
    """The reason to reject a zip by its directory, before anything is unpacked; else None."""
    if "[Content_Types].xml" in archive.names:
        return f"an office document; {_SAVE}"
    if len(archive.names) > limits.num_cells:
        return f"{len(archive.names):,} files: {too_many(limits)}"
    if (total := sum(archive.num_bytes.values())) > limits.total_bytes:
        return f"unpacks to {total >> 20:,} MB: {too_many(limits)}"
    if max(archive.num_bytes.values()) > limits.file_bytes:
        return f"holds a file larger than {limits.file_bytes >> 20} MB; {_SMALLER}"
    return None


def _zip_error(error: ValueError, path: Path) -> str:
    """The error about an archive without the server's path."""
    detail = str(error).replace(f"{path}: ", "").replace(str(path), "the zip")
    if "truncated or damaged" in detail or "cannot be read" in detail:
        return "a damaged zip; create it again"
    return (
        public_message(detail)
        .replace(" and give that", "")
        .replace("fetch it again", "create it again")
    )


def _read_image(data: bytes, name: str, limits: Limits) -> Iterator[UploadedImage | RejectedFile]:
    if (kind := other_kind(data)) is not None:
        yield RejectedFile(name, f"{kind.what}; {kind.remedy}")
        return
    try:
        if is_tiff(data):
            yield from _read_tiff(data, name, limits)
        else:
            yield UploadedImage(name, decode_rgb(data, name, limits.num_pixels))
    except ImageFault as error:
        yield RejectedFile(name, _plainly(error, name))


def _read_tiff(data: bytes, name: str, limits: Limits) -> Iterator[UploadedImage | RejectedFile]:
    pages = decode_pages(data, name, limits.num_cells, limits.num_pixels)
    first = [*islice(pages, 2)]  # the others are decoded one by one
    for number, found in chain(first, pages):
        place = f"{name}, page {number}" if len(first) > 1 else name
        if isinstance(found, ImageFault):
            yield RejectedFile(place, _plainly(found, name))
        else:
            yield UploadedImage(place, found)


def _plainly(error: ImageFault, name: str) -> str:
    reason = str(error).removeprefix(f"{name}: ").partition("; ")[0]
    for part, message in _PLAIN:
        if part in reason:
            return message.format(reason=reason)
    return f"{public_message(reason)}; {_SAVE}"


def too_many(limits: Limits) -> str:
    """The reason to reject what is beyond the limits of an upload."""
    return (
        f"more than this page accepts at once ({limits.num_cells:,} cells, "
        f"{limits.total_bytes >> 20} MB unpacked); use the command `hf-wbc predict` for more"
    )
