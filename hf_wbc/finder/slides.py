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
def open_slide(path: Path, name: str) -> Iterator[OpenedSlide]:
    """Open a whole slide.

    Raises:
        ImageFault: If OpenSlide is missing, or the slide is damaged or of an unknown format.
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

        def read(top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
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
