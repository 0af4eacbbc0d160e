"""Open fields of view and whole slides through one interface: a size, and a function that reads."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.archive_names import name_fault, printable_name
from hf_wbc.data.folder_walk import walk_folder
from hf_wbc.data.image_io import IMAGE_SUFFIXES, ImageFault, decode_rgb, pixel_sha256
from hf_wbc.finder.detect_cells import Read
from hf_wbc.finder.slides import SLIDE_SUFFIXES, is_slide, open_slide
from hf_wbc.text import shorten_list

MAX_FIELD_PIXELS = 100_000_000
"""Largest width x height of a field of view; what is larger has to be a whole slide."""
MAX_FIELD_BYTES = 2**29
"""Largest file of a field of view."""


@dataclass(frozen=True)
class FieldSource:
    """A field of view or a whole slide."""

    name: str
    height: int
    width: int
    read: Read
    um_per_px: float | None = None
    """Scale that the file states; only slides state one that can be trusted."""
    digest: str | None = None
    """Digest of the pixels, or that of a slide's own library; None if a slide has none."""
    is_slide: bool = False
    """Whether it is read piece by piece."""


def list_fields(path: Path) -> tuple[Path, tuple[str, ...], tuple[str, ...]]:
    """List the fields of a folder and its subfolders, or a single one.

    Returns:
        The folder, the names of the fields within it, and those of other files.

    Raises:
        ValueError: If there is no field.
    """
    if path.is_file():
        return path.parent, (path.name,), ()
    if not path.is_dir():
        raise ValueError(f"{path} does not exist; give a picture of a field, a slide or a folder")
    listing = walk_folder(path)
    names: list[str] = []
    others: list[str] = []
    for name in listing.files:
        is_field = name.lower().endswith((*IMAGE_SUFFIXES, *SLIDE_SUFFIXES))
        is_hidden = name.rpartition("/")[2].startswith(".")
        (names if is_field and not is_hidden else others).append(name)
    others += [*listing.outside, *listing.loops]
    if not names:
        shown = shorten_list([printable_name(name) for name in others]) or "nothing"
        raise ValueError(f"{path} contains no fields of view; it holds {shown}")
    return path, tuple(names), tuple(printable_name(name) for name in others)


@contextmanager
def open_field(
    folder: Path, name: str, max_gigapixels: float | None = None
) -> Iterator[FieldSource]:
    """Open a field or a slide.

    Args:
        folder: The folder of the field.
        name: Its name within the folder.
        max_gigapixels: Largest width x height of a slide, see `hf_wbc.finder.slides.open_slide`.

    Raises:
        ImageFault: If it cannot be used; the message names it.
    """
    path = folder / name
    if fault := name_fault(name):
        raise ImageFault(f"{printable_name(name)}: {fault}; rename it")
    try:
        facts = path.stat()
        if not S_ISREG(facts.st_mode):
            raise ImageFault(f"{name}: not a file")
        is_whole_slide = is_slide(path)
        if not is_whole_slide and facts.st_size <= MAX_FIELD_BYTES:
            data = path.read_bytes()
    except OSError as error:
        raise ImageFault(f"{name}: cannot be read ({error.strerror})") from error
    if is_whole_slide:
        with open_slide(path, name, max_gigapixels) as slide:
            yield FieldSource(
                name, slide.height, slide.width, slide.read, slide.um_per_px, slide.digest, True
            )
        return
    if facts.st_size > MAX_FIELD_BYTES:
        raise ImageFault(_too_large(name, f"{facts.st_size:,} bytes"))
    yield decode_field(data, name)


def decode_field(data: bytes, name: str) -> FieldSource:
    """Decode a field of view.

    Raises:
        ImageFault: If it is damaged, larger than `MAX_FIELD_PIXELS`, or not 8-bit RGB.
    """
    try:
        pixels = decode_rgb(data, name, MAX_FIELD_PIXELS)
    except ImageFault as error:
        reason = str(error).removeprefix(f"{name}: ").partition("; ")[0]
        if "too large" in reason:
            raise ImageFault(_too_large(name, "")) from error
        raise ImageFault(f"{name}: {reason}") from error

    height, width = pixels.shape[:2]

    def read(top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        return pixels[top:bottom, left:right]

    return FieldSource(name, height, width, read, None, pixel_sha256(pixels))


def _too_large(name: str, size: str) -> str:
    held = f" ({size})" if size else ""
    return (
        f"{name}: larger{held} than {MAX_FIELD_PIXELS // 10**6} megapixels; cut it into fields, or "
        "save it as a whole slide (a tiled TIFF)"
    )
