"""Repeated images within a dataset and between two, and the findings they lead to.

Within a dataset, whole frames are compared; between datasets their 25 um squares, which have a
common scale.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from hf_wbc.audit.measure import Folder, FolderReading
from hf_wbc.data.schema import CROP_UM
from hf_wbc.preparation.duplicates import THUMBNAIL_PX, components, overlapping_pairs
from hf_wbc.preparation.source import Finding

SAME_CELL_UM = 3.0
"""Largest shift between two frames of one cell; the centers of two cells are further apart."""
_FILLED_UM = 15.0
"""Assumed width of a frame that the cell fills."""
SAME_COLOR = 25.0
"""Largest difference (0 to 255) of the mean of each color between two photographs of one cell."""


@dataclass(frozen=True)
class DuplicateGroups:
    """Rows of a `FolderReading` that repeat others."""

    identical: tuple[tuple[int, ...], ...]
    """Rows with the same pixels, two or more, in ascending order."""
    overlapping: tuple[tuple[int, int], ...]
    """Pairs of rows with different pixels that show the same scene."""
    same_cell: frozenset[tuple[int, int]]
    """Pairs in `overlapping` with a small shift and the same color: one cell, saved twice."""


def find_duplicate_groups(reading: FolderReading) -> DuplicateGroups:
    """Find all duplicates within and between folders.

    Of identical images, only the first is compared with others.
    """
    rows_of: dict[str, list[int]] = {}
    for row, digest in enumerate(reading.digests):
        rows_of.setdefault(digest, []).append(row)
    digests = np.array(reading.digests)
    found: dict[tuple[int, int], float] = {}
    for number, folder in enumerate(reading.folders):
        mine = _firsts(digests, reading.where(number))
        um = reading.size_px[mine].max() * folder.um_per_px if folder.um_per_px else _FILLED_UM
        found |= _shifts_um(reading.scene, mine, um)
    if len(reading.folders) > 1:
        between = _shifts_um(reading.square, _firsts(digests, np.arange(len(reading))), CROP_UM)
        found |= {
            pair: shift_um
            for pair, shift_um in between.items()
            if reading.folder[pair[0]] != reading.folder[pair[1]]
        }
    return DuplicateGroups(
        identical=tuple(tuple(rows) for rows in rows_of.values() if len(rows) > 1),
        overlapping=tuple(sorted(found)),
        same_cell=frozenset(
            (one, other)
            for (one, other), shift_um in found.items()
            if shift_um <= SAME_CELL_UM
            and _color_difference(reading.small[one], reading.small[other]) <= SAME_COLOR
        ),
    )


def _firsts(digests: NDArray[np.str_], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first row of each digest, in ascending order."""
    return np.sort(rows[np.unique(digests[rows], return_index=True)[1]])


def _shifts_um(
    thumbnails: NDArray[np.uint8], rows: NDArray[np.int64], um: float
) -> dict[tuple[int, int], float]:
    """Find pairs of `rows` that share a scene, with the larger of their two shifts in um.

    Frames are `um` wide.
    """
    if len(rows) < 2:
        return {}
    pairs = overlapping_pairs(thumbnails[rows])
    return {
        (int(rows[i]), int(rows[j])): max(abs(dy), abs(dx)) * um / THUMBNAIL_PX
        for i, j, dy, dx in pairs.tolist()
    }


def group_ties(reading: FolderReading, duplicates: DuplicateGroups) -> NDArray[np.int64]:
    """Return for each row (N,) the set that cross-validation must keep together."""
    groups: dict[tuple[int, str], list[int]] = {}
    for row, group in enumerate(reading.groups):
        if group is not None:
            groups.setdefault((int(reading.folder[row]), group), []).append(row)
    tied = [*groups.values(), *duplicates.identical, *duplicates.overlapping]
    return components(len(reading), tied)


def _color_difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the largest difference of the mean colors of two small images, in levels."""
    return float(np.abs(one.mean(axis=(0, 1)) - other.mean(axis=(0, 1))).max())


@dataclass(frozen=True)
class SharedImages:
    """The images that two datasets have in common."""

    domains: tuple[str, str]
    identical: tuple[tuple[int, ...], ...]
    overlapping: tuple[tuple[int, int], ...]


def shared_between(reading: FolderReading, duplicates: DuplicateGroups) -> list[SharedImages]:
    """Return the shared images of each pair of folders; empty for one folder."""
    names = [folder.name for folder in reading.folders]
    found = []
    for one, other in combinations(range(len(names)), 2):

        def both(rows: Sequence[int], wanted: tuple[int, int] = (one, other)) -> bool:
            return set(wanted) <= {int(reading.folder[row]) for row in rows}

        found.append(
            SharedImages(
                (names[one], names[other]),
                tuple(
                    tuple(row for row in rows if reading.folder[row] in (one, other))
                    for rows in duplicates.identical
                    if both(rows)
                ),
                tuple(pair for pair in duplicates.overlapping if both(pair)),
            )
        )
    return found


def conflicting_labels(
    reading: FolderReading, duplicates: DuplicateGroups
) -> tuple[tuple[int, ...], ...]:
    """Return rows that show one cell with different labels; unlabeled rows are ignored."""
    cells = (*duplicates.identical, *sorted(duplicates.same_cell))
    return tuple(
        rows for rows in cells if len({int(reading.labels[row]) for row in rows} - {-1}) > 1
    )


def in_folder(
    reading: FolderReading, ties: Sequence[tuple[int, ...]], folder: int
) -> list[tuple[int, ...]]:
    """Restrict `ties` to the rows of one folder, and drop those with fewer than two rows left."""
    mine = [tuple(row for row in rows if reading.folder[row] == folder) for rows in ties]
    return [rows for rows in mine if len(rows) > 1]


def across_splits(reading: FolderReading, rows: Sequence[int]) -> bool:
    """Return whether rows are in more than one split."""
    return any(reading.split[one] != reading.split[other] for one, other in pairwise(rows))


Rows = tuple[int, ...]
_PREPARE_AGAIN = "Build the dataset again with `hf-wbc prepare`, which keeps such images together."
_NOTED = "listed in provenance.json since the dataset was built"


def duplicate_findings(reading: FolderReading, duplicates: DuplicateGroups) -> Iterator[Finding]:
    """Yield findings about duplicates within each dataset and between each pair."""
    labels = conflicting_labels(reading, duplicates)
    for number, folder in enumerate(reading.folders):
        yield from _labels(reading, folder, in_folder(reading, labels, number))
        yield from _repeated(
            reading, folder, in_folder(reading, duplicates.identical, number), True
        )
        yield from _repeated(
            reading, folder, in_folder(reading, duplicates.overlapping, number), False
        )
        yield from _groups(reading, number)
    for shared in shared_between(reading, duplicates):
        yield from _shared(reading, shared, labels)


def _ids(reading: FolderReading, rows: Iterable[int]) -> tuple[str, ...]:
    return tuple(sorted(reading.image_ids[row] for row in rows))


def _labels(reading: FolderReading, folder: Folder, found: list[Rows]) -> Iterator[Finding]:
    known = set(folder.provenance.get("train_only", ()))
    for is_known, rows in _parted(found, lambda rows: set(_ids(reading, rows)) <= known):
        yield Finding(
            kind="two_labels",
            domains=(folder.name,),
            number=len(rows),
            title=_count(rows, "image has", "images have") + " two labels",
            meaning="The same cell was labeled twice, with different classes. One of the labels "
            "is wrong, and so is every score that counts it.",
            remedy="Ask an expert which label is right and remove the other file. If it cannot be "
            "decided, declare the pair in the source's faults; it is then used only for training.",
            status="declared" if is_known else "undeclared",
            declared="a declared fault of the source; kept in the training split" * is_known,
            rows=rows,
        )


def _repeated(
    reading: FolderReading, folder: Folder, found: list[Rows], identical: bool
) -> Iterator[Finding]:
    kind = "identical" if identical else "overlapping"
    noted = {tuple(sorted(ids)) for ids in folder.provenance.get(kind, ())}
    torn = [rows for rows in found if across_splits(reading, rows)]
    rest = [rows for rows in found if not across_splits(reading, rows)]
    if torn:
        yield Finding(
            kind=f"{kind}_across_splits",
            domains=(folder.name,),
            number=len(torn),
            title=(
                _count(torn, "image is", "images are") if identical else _pairs(torn, "is", "are")
            )
            + " in more than one split",
            meaning="The model is tested on images it has memorized, so its score is too high.",
            remedy=_PREPARE_AGAIN,
            rows=tuple(torn),
        )
    for is_known, rows in _parted(rest, lambda rows: _ids(reading, rows) in noted):
        yield Finding(
            kind=kind,
            domains=(folder.name,),
            number=len(rows),
            title=(
                _count(rows, "image occurs", "images occur") + " more than once"
                if identical
                else _pairs(rows, "is", "are") + " in one split"
            ),
            meaning="They count twice and are not independent evidence. Scores are still fair, "
            "because they are in one split.",
            remedy="No action is needed." if is_known else _PREPARE_AGAIN,
            status="declared" if is_known else "undeclared",
            declared=_NOTED * is_known,
            rows=rows,
        )


def _groups(reading: FolderReading, number: int) -> Iterator[Finding]:
    """Yield a finding about patients, slides or sessions that are divided between splits."""
    members: dict[str, list[int]] = {}
    for row in reading.where(number).tolist():
        if (group := reading.groups[row]) is not None:
            members.setdefault(group, []).append(row)
    torn = [tuple(rows) for rows in members.values() if across_splits(reading, rows)]
    if torn:
        yield Finding(
            kind="group_across_splits",
            domains=(reading.folders[number].name,),
            number=len(torn),
            title=f"{len(torn):,} of {len(members):,} groups are in more than one split",
            meaning="Cells of one patient, slide or session look alike. A model that was trained "
            "on the patient is not tested on anything new, so its score is too high.",
            remedy=_PREPARE_AGAIN,
        )


def _shared(
    reading: FolderReading, shared: SharedImages, labels: tuple[Rows, ...]
) -> Iterator[Finding]:
    rows = (*shared.identical, *shared.overlapping)
    if not rows:
        return
    one, other = shared.domains
    yield Finding(
        kind="shared_between_datasets",
        domains=shared.domains,
        number=len(rows),
        title=f"{one} and {other} share {len(shared.identical):,} identical images and "
        f"{len(shared.overlapping):,} scenes",
        meaning="A model that is trained on one and tested on the other is tested on known images.",
        remedy="Leave the shared images out of the training set; audit.json lists them.",
        rows=rows,
    )
    if split := tuple(cell for cell in labels if cell in set(rows)):
        yield Finding(
            kind="two_labels",
            domains=shared.domains,
            number=len(split),
            title=_count(split, "image has", "images have") + f" one label in {one} and another "
            f"in {other}",
            meaning="The two laboratories label the same cell differently.",
            remedy="Ask an expert which label is right; exclude the cells from scores until then.",
            rows=split,
        )


def _parted(
    found: Sequence[Rows], is_known: Callable[[Rows], bool]
) -> Iterator[tuple[bool, tuple[Rows, ...]]]:
    """Yield undeclared rows first, then declared ones, if there are any."""
    for wanted in (False, True):
        if rows := tuple(rows for rows in found if is_known(rows) == wanted):
            yield wanted, rows


def _count(rows: Sequence[Rows], one: str, many: str) -> str:
    return f"{len(rows):,} {one if len(rows) == 1 else many}"


def _pairs(rows: Sequence[Rows], one: str, many: str) -> str:
    return _count(
        rows,
        f"pair of overlapping frames {one}",
        f"pairs of overlapping frames {many}",
    )
