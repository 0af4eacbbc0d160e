"""Read boxes of cells that people drew (Pascal VOC or YOLO), and compare found cells with them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.folder_walk import walk_folder
from hf_wbc.text import parse_xml, shorten_list

MATCH_UM = 5.0
"""Largest distance in um between a found cell and the center of its box."""
WHITE_CELLS = ("wbc", "leukocyte", "white blood cell")
"""Lowercase names of the boxes of white cells, unless other names are given."""
NOT_BOXES = ("classes.txt", "README.txt")
"""Text files that may lie among YOLO files."""
MAX_BOX_BYTES = 2**22
"""Largest file of boxes; one line of YOLO has about 40 bytes."""
MAX_BOXES = 10_000
"""Most boxes of a field; each is compared with every cell."""


@dataclass(frozen=True)
class Box:
    """A box around a cell, in pixels of the field."""

    name: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def center(self) -> tuple[float, float]:
        """Center, x and y in pixels."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


@dataclass(frozen=True)
class Match:
    """Found cells of a field compared with its boxes."""

    num_boxes: int
    num_found: int
    num_matched: int
    missed: tuple[tuple[float, float], ...] = ()
    """Centers of boxes without a cell, x and y in pixels."""
    extra: tuple[tuple[float, float], ...] = ()
    """Cells without a box, x and y in pixels."""

    @property
    def recall(self) -> float:
        """Share of the boxes that were found; 1 without boxes."""
        return self.num_matched / self.num_boxes if self.num_boxes else 1.0

    @property
    def precision(self) -> float:
        """Share of the found cells that have a box; 1 without cells."""
        return self.num_matched / self.num_found if self.num_found else 1.0


def match_boxes(
    found: Sequence[tuple[float, float]], boxes: Sequence[Box], um_per_px: float
) -> Match:
    """Pair found cells with boxes, each at most once, so that the sum of distances is smallest.

    Args:
        found: Centers of the found cells, x and y in pixels.
        boxes: The boxes of the field.
        um_per_px: Scale in um per pixel.
    """
    from scipy.optimize import linear_sum_assignment

    if not found or not boxes:
        centers = tuple(box.center for box in boxes)
        return Match(len(boxes), len(found), 0, centers, tuple(found))
    given = np.array([box.center for box in boxes])
    distance = np.hypot(*(np.array(found)[:, None] - given[None]).transpose(2, 0, 1)) * um_per_px
    is_near = distance <= MATCH_UM
    rows, columns = linear_sum_assignment(np.where(is_near, distance, 1e6))
    pairs = [(r, c) for r, c in zip(rows, columns, strict=True) if is_near[r, c]]
    hit, used = {r for r, _ in pairs}, {c for _, c in pairs}
    return Match(
        len(boxes),
        len(found),
        len(pairs),
        tuple(box.center for number, box in enumerate(boxes) if number not in used),
        tuple(point for number, point in enumerate(found) if number not in hit),
    )


def total(matches: Iterable[Match]) -> Match:
    """Add up the fields' numbers."""
    each = list(matches)
    return Match(
        sum(match.num_boxes for match in each),
        sum(match.num_found for match in each),
        sum(match.num_matched for match in each),
    )


def find_box_files(folder: Path) -> dict[str, Path]:
    """Return the files of boxes in a folder and its subfolders, by name without suffix.

    Raises:
        ValueError: If there are none, or two have the same name.
    """
    found: dict[str, Path] = {}
    for path in (folder / name for name in walk_folder(folder).files):
        if path.suffix.lower() not in (".xml", ".txt") or path.name in (
            "classes.txt",
            "README.txt",
        ):
            continue
        if path.stem in found:
            raise ValueError(f"{found[path.stem]} and {path} are of one field; keep one of them")
        found[path.stem] = path
    if not found:
        raise ValueError(f"{folder} has no boxes: give Pascal VOC (.xml) or YOLO (.txt) files")
    return found


def read_boxes(
    path: Path, size: tuple[int, int], names: Sequence[str] = WHITE_CELLS
) -> tuple[Box, ...]:
    """Read the boxes of one field.

    Args:
        path: A Pascal VOC file (.xml), or a YOLO file (.txt): class, center and size per line, in
            fractions of the field. `classes.txt` beside it names the classes; without it, their
            numbers are their names.
        size: Width and height of the field in pixels.
        names: Names of the boxes to read, in any case.

    Raises:
        ValueError: If the file is neither, or too large, or has too many boxes.
    """
    if path.stat().st_size > MAX_BOX_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, too many for boxes")
    text = path.read_bytes().decode("utf-8-sig", "replace")
    boxes = _voc(text, path) if path.suffix.lower() == ".xml" else _yolo(text, path, size)
    if len(boxes) > MAX_BOXES:
        raise ValueError(f"{path} has {len(boxes):,} boxes, more than a field can have")
    wanted = {name.lower() for name in names}
    return tuple(box for box in boxes if box.name.lower() in wanted)


def _voc(text: str, path: Path) -> list[Box]:
    root = parse_xml(text.encode(), str(path))
    try:
        return [
            Box(
                (thing.findtext("name") or "").strip(),
                *(float(thing.findtext(f"bndbox/{edge}") or "") for edge in _EDGES),
            )
            for thing in root.iter("object")
        ]
    except ValueError as error:
        raise ValueError(f"{path} is not a Pascal VOC file ({error})") from error


_EDGES = ("xmin", "ymin", "xmax", "ymax")


def _yolo(text: str, path: Path, size: tuple[int, int]) -> list[Box]:
    listed = path.with_name("classes.txt")
    titles = listed.read_text("utf-8-sig", "replace").splitlines() if listed.is_file() else []
    boxes = []
    for line, fields in enumerate(map(str.split, text.splitlines()), 1):
        if not fields:
            continue
        try:
            number, values = int(fields[0]), np.array(fields[1:5], float)
            boxes.append(_from_yolo(titles, number, values, size))
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"{path}, line {line}: {shorten_list(fields, 6)} is not a class and a box in "
                "fractions of the field"
            ) from error
    return boxes


def _from_yolo(
    titles: Sequence[str], number: int, values: NDArray[np.float64], size: tuple[int, int]
) -> Box:
    x, y, width, height = values
    if not (
        np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all() and number >= 0
    ):
        raise ValueError
    name = titles[number].strip() if titles else str(number)
    (w, h) = size
    return Box(
        name,
        (x - width / 2) * w,
        (y - height / 2) * h,
        (x + width / 2) * w,
        (y + height / 2) * h,
    )
