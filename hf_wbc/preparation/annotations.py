"""Annotations and re-annotations of an archive's images.

AML-Cytomorphology_LMU (Matek 2019) stores them as `annotations.dat`: one line per image with its
path, its annotation and two re-annotations as class codes, separated by white space, without a
header. Most images were annotated once and have `nan` for the rest. Lines that cannot be read are
counted and reported, never guessed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.archive import open_archive
from hf_wbc.taxonomy import class_id
from hf_wbc.text import shorten_list

FILE = "annotations.dat"
RATINGS = ("annotation", "first re-annotation", "second re-annotation")
MISSING = -1
"""There is no second opinion, or its code is unknown."""
OUTSIDE = -2
"""A known code outside the eleven classes."""
_NONE = ("nan", "none", "na", "-", "")


@dataclass(frozen=True)
class AnnotationTable:
    """The annotations of N images, up to three of each."""

    image_ids: tuple[str, ...]
    """File names as they appear in the table."""
    ratings: NDArray[np.int64]
    """Class ids (N, 3) in the order of `RATINGS`, or `MISSING`, or `OUTSIDE`."""
    unknown: Mapping[str, int]
    """Undeclared codes and how often they occur; they count as `MISSING`."""
    bad_lines: tuple[str, ...]
    """Lines that were left out, by number, with the reason."""


def read_annotations(path: Path, labels: Mapping[str, str | None]) -> AnnotationTable:
    """Read annotations from `annotations.dat` or from the archive that contains it.

    Args:
        path: The file itself, or the archive (folder, zip or tar) that contains it.
        labels: Archive code to class name, None for a code outside the eleven; as in `ArchiveSpec`.

    Raises:
        ValueError: There is no such table, or none of its lines can be used.
    """
    if path.is_file() and path.name.endswith(FILE):
        return parse_annotations(path.read_bytes(), str(path), labels)
    with TemporaryDirectory() as scratch:
        archive = open_archive(path, Path(scratch))
        found = [name for name in archive.names if name.rpartition("/")[2] == FILE]
        if len(found) != 1:
            held = f"{len(found)} of them: {shorten_list(found)}" if found else "none"
            raise ValueError(
                f"looked for {FILE} in {path} and found {held}; give the path of the file itself"
            )
        return parse_annotations(archive.read(found[0]), f"{path}: {found[0]}", labels)


def parse_annotations(data: bytes, name: str, labels: Mapping[str, str | None]) -> AnnotationTable:
    """Parse the table in `data`; errors refer to it as `name`."""
    ids = {code: OUTSIDE if cell is None else class_id(cell) for code, cell in labels.items()}
    ratings: dict[str, list[int]] = {}
    unknown: Counter[str] = Counter()
    bad = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        if not (fields := line.split()):
            continue
        if why := _fault(fields, ids):
            bad.append(f"line {number}: {why}")
            continue
        image_id = fields[0].rpartition("/")[2]
        if image_id in ratings:
            bad.append(f"line {number}: {image_id} already has a line")
            continue
        again = [code for code in (*fields[2:], *["nan"] * (4 - len(fields)))]
        unknown.update(code for code in again if code.lower() not in _NONE and code not in ids)
        ratings[image_id] = [ids[fields[1]], *(ids.get(code, MISSING) for code in again)]
    if not ratings:
        reason = f"; {shorten_list(bad, 3)}" if bad else ""
        raise ValueError(
            f"{name} contains no annotations; a line consists of a path, an annotation and two "
            f"re-annotations, with codes such as {shorten_list(list(ids), 3)}{reason}"
        )
    array = np.array(list(ratings.values()), dtype=np.int64)
    return AnnotationTable(tuple(ratings), array, dict(sorted(unknown.items())), tuple(bad))


def _fault(fields: list[str], ids: Mapping[str, int]) -> str:
    """Return why a line cannot be used, or an empty string."""
    if len(fields) not in (2, 4):
        return f"{len(fields)} fields instead of 4 (path, annotation, two re-annotations)"
    path, code = fields[:2]
    if code not in ids:
        return f"unknown annotation {code!r} of {path}"
    *_, folder = ["", *path.split("/")[:-1]]
    if folder in ids and folder != code:
        return f"{path} is annotated as {code} but is in the folder of another class"
    return ""
