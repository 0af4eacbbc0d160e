"""Read whole slides piece by piece through OpenSlide (extra `slides`).

OpenSlide reads the formats of Aperio, Hamamatsu, Leica, MIRAX, Philips, Trestle, Ventana and Zeiss,
DICOM whole slides, and tiled pyramidal TIFFs. A slide's library may crash on a damaged file, so
errors of reading are reported with the slide's name and the place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.image_io import ImageFault
from hf_wbc.finder.detect_cells import Read

SLIDE_SUFFIXES = (
    ".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".czi", ".dcm",
)  # fmt: skip
"""Lowercase suffixes of files that only OpenSlide reads."""
STRIP_ROWS = 512
"""Rows of a slide that OpenSlide decodes at a time, as it takes four times their memory."""
EMPTY_PIXELS = 21 * 10**9
"""Largest width x height of a slide whose file may hold almost nothing: a coverslip of 24 x 50 mm
at 0.25 um per pixel has 19 gigapixels, most of them empty glass that need not be stored."""
PIXELS_PER_BYTE = 1000
"""Further pixels of a slide for each byte that it holds; a compressed tile of empty glass has fewer
than 700."""
MAX_TILE_PIXELS = 2**26
"""Largest width x height of a piece that OpenSlide decodes at once; scanners write 256 to 4096 px
squares."""
MAX_LEVELS = 100
"""Most resolutions of a slide; scanners write fewer than 12."""
_SIDES = ("width", "height")
_OF_MANY_FILES = (".mrxs", ".vms", ".vmu", ".dcm")
"""Suffixes of slides whose pixels lie in files beside them."""
NEEDS_OPENSLIDE = "a whole slide, which needs the extra slides: pip install 'hf_wbc[slides]'"


@dataclass(frozen=True)
class OpenedSlide:
    """A slide that is open."""

    height: int
    width: int
    read: Read
    um_per_px: float | None
    """Scale that the slide states."""
    digest: str | None
    """OpenSlide's digest of the slide, the same for all files of a DICOM series; None if it has
    none."""


def is_slide(path: Path) -> bool:
    """Return whether a file is a whole slide: by its suffix, or a TIFF with several levels."""
    suffix = path.suffix.lower()
    if suffix in SLIDE_SUFFIXES:
        return True
    if suffix not in (".tif", ".tiff"):
        return False
    try:
        import openslide
    except ImportError:
        return False
    try:
        if openslide.OpenSlide.detect_format(str(path)) is None:
            return False
        with openslide.OpenSlide(str(path)) as slide:
            return bool(slide.level_count > 1)
    except openslide.OpenSlideError:
        return True  # a slide that cannot be opened; opening it says why


@contextmanager
def open_slide(path: Path, name: str, max_gigapixels: float | None = None) -> Iterator[OpenedSlide]:
    """Open a whole slide.

    Args:
        path: A file of the slide.
        name: Its name for error messages.
        max_gigapixels: Largest width x height; without it, the size of the file limits them.

    Raises:
        ImageFault: If OpenSlide is missing, or the slide is damaged, of an unknown format, or
            claims more pixels than it can hold.
    """
    try:
        import openslide
    except ImportError as error:
        raise ImageFault(f"{name}: {NEEDS_OPENSLIDE}") from error
    try:
        slide = openslide.OpenSlide(str(path))
    except (openslide.OpenSlideError, OSError) as error:
        raise ImageFault(f"{name}: not a whole slide, or a damaged one ({error})") from error
    with slide:
        width, height = slide.dimensions
        _refuse_bomb(slide, path, name, max_gigapixels)
        scanned = _scanned_part(slide.properties)

        def read(top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
            if scanned is not None and not _overlap(scanned, (top, left, bottom, right)):
                return np.full((bottom - top, right - left, 3), 255, np.uint8)
            pixels = np.empty((bottom - top, right - left, 3), np.uint8)
            for first in range(top, bottom, STRIP_ROWS):
                last = min(first + STRIP_ROWS, bottom)
                try:
                    part = slide.read_region((left, first), 0, (right - left, last - first))
                except openslide.OpenSlideError as error:
                    raise ImageFault(
                        f"{name}: truncated or damaged at row {first}, column {left} ({error}); "
                        "copy it again"
                    ) from error
                _paint_on_white(part, pixels[first - top : last - top])
            return pixels

        digest = slide.properties.get("openslide.quickhash-1")
        yield OpenedSlide(height, width, read, _scale(slide.properties), digest)


def _refuse_bomb(slide: Any, path: Path, name: str, max_gigapixels: float | None) -> None:
    """Raise ImageFault for a slide that would take a search days, or a decoder all memory."""
    if slide.level_count > MAX_LEVELS:
        raise ImageFault(f"{name}: damaged (it states {slide.level_count:,} resolutions)")
    for level in range(slide.level_count):
        sides = [slide.properties.get(f"openslide.level[{level}].tile-{s}", 0) for s in _SIDES]
        if int(sides[0]) * int(sides[1]) > MAX_TILE_PIXELS:
            raise ImageFault(
                f"{name}: its tiles of {sides[0]}x{sides[1]} px take too much memory; save it with "
                "tiles of 512x512 px"
            )
    width, height = slide.dimensions
    num_bytes = sum(file.stat().st_size for file in _files(path))
    limit = EMPTY_PIXELS + PIXELS_PER_BYTE * num_bytes
    if max_gigapixels is not None:
        limit = int(max_gigapixels * 1e9)
    if width * height > limit:
        raise ImageFault(
            f"{name}: claims {width:,}x{height:,} px ({width * height / 1e9:.0f} gigapixels) and "
            f"holds {num_bytes:,} bytes; a damaged slide or a decompression bomb. If it is a real "
            f"one, pass --max-gigapixels {width * height / 1e9 + 0.5:.0f}"
        )


def _files(path: Path) -> Iterator[Path]:
    """Yield the files that may hold the pixels of a slide."""
    yield path
    if path.suffix.lower() in _OF_MANY_FILES:
        beside = (path.parent, path.with_suffix(""))
        for folder in filter(Path.is_dir, beside):
            yield from (each for each in folder.iterdir() if each.is_file() and each != path)


def _scanned_part(properties: Any) -> tuple[int, int, int, int] | None:
    """Return top, left, bottom and right of what was scanned; None if the slide does not say."""
    names = ("y", "x", "height", "width")
    try:
        top, left, height, width = (int(properties[f"openslide.bounds-{n}"]) for n in names)
    except (KeyError, ValueError):
        return None
    return top, left, top + height, left + width


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    top, left = max(one[0], other[0]), max(one[1], other[1])
    return top < min(one[2], other[2]) and left < min(one[3], other[3])


def _paint_on_white(part: Any, pixels: NDArray[np.uint8]) -> None:
    """Copy the colors to `pixels` (H, W, 3); where the slide has no pixels, it is white."""
    rgba = np.asarray(part)
    pixels[:] = rgba[..., :3]
    pixels[rgba[..., 3] == 0] = 255


def _scale(properties: Any) -> float | None:
    """Return um per pixel, if the slide states the same plausible value for both axes."""
    try:
        x, y = (float(properties[f"openslide.mpp-{axis}"]) for axis in "xy")
    except (KeyError, ValueError):
        return None
    return x if 0.02 <= x <= 1 and abs(x - y) <= 0.05 * x else None
