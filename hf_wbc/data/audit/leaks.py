"""Findings about images that repeat others: what they do to a score, and what to do about them."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from hf_wbc.data.audit.read import Folder, Reading
from hf_wbc.data.audit.repeats import (
    Repeats,
    Shared,
    across_splits,
    in_folder,
    shared_between,
    two_labels,
)
from hf_wbc.prepare.source import Finding

Rows = tuple[int, ...]
_PREPARE_AGAIN = "Build the dataset again with `hf-wbc prepare`, which keeps such images together."
_NOTED = "listed in provenance.json when the dataset was built"


def repeat_findings(reading: Reading, repeats: Repeats) -> Iterator[Finding]:
    """Everything that repeats within a dataset and between two."""
    labels = two_labels(reading, repeats)
    for number, folder in enumerate(reading.folders):
        yield from _labels(reading, folder, in_folder(reading, labels, number))
        yield from _repeated(reading, folder, in_folder(reading, repeats.identical, number), True)
        yield from _repeated(
            reading, folder, in_folder(reading, repeats.overlapping, number), False
        )
        yield from _groups(reading, number)
    for shared in shared_between(reading, repeats):
        yield from _shared(reading, shared, labels)


def _ids(reading: Reading, rows: Iterable[int]) -> tuple[str, ...]:
    return tuple(sorted(reading.image_ids[row] for row in rows))


def _labels(reading: Reading, folder: Folder, found: list[Rows]) -> Iterator[Finding]:
    known = set(folder.provenance.get("train_only", ()))
    for is_known, rows in _parted(found, lambda rows: set(_ids(reading, rows)) <= known):
        yield Finding(
            kind="two_labels",
            domains=(folder.name,),
            number=len(rows),
            title=_count(rows, "image stands", "images stand") + " under two labels",
            meaning="The same cell was named twice, differently. One of the names is wrong, and a "
            "score that counts it is wrong as well.",
            remedy="Ask an expert which name is right and remove the other file. Where nobody "
            "knows, declare the pair among the source's faults: it is then used for training only.",
            status="declared" if is_known else "undeclared",
            declared="a declared fault of the source; kept in the training split" * is_known,
            rows=rows,
        )


def _repeated(
    reading: Reading, folder: Folder, found: list[Rows], identical: bool
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
                _count(torn, "image lies", "images lie")
                if identical
                else _pairs(torn, "lies", "lie")
            )
            + " in more than one split",
            meaning="A model is tested on what it has learned by heart, so its score is too high.",
            remedy=_PREPARE_AGAIN,
            rows=tuple(torn),
        )
    for is_known, rows in _parted(rest, lambda rows: _ids(reading, rows) in noted):
        yield Finding(
            kind=kind,
            domains=(folder.name,),
            number=len(rows),
            title=(
                _count(rows, "image is", "images are") + " there more than once"
                if identical
                else _pairs(rows, "lies", "lie") + " in one split"
            ),
            meaning="They count twice, and are no independent evidence; scores stay fair, as they "
            "lie on one side of the split.",
            remedy="Nothing has to be done." if is_known else _PREPARE_AGAIN,
            status="declared" if is_known else "undeclared",
            declared=_NOTED * is_known,
            rows=rows,
        )


def _groups(reading: Reading, number: int) -> Iterator[Finding]:
    """Patients, slides or sessions that were torn apart."""
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
            title=f"{len(torn):,} of {len(members):,} groups lie in more than one split",
            meaning="Cells of one patient, slide or session look alike. A model that knows the "
            "patient is tested on nothing new, so its score is too high.",
            remedy=_PREPARE_AGAIN,
        )


def _shared(reading: Reading, shared: Shared, labels: tuple[Rows, ...]) -> Iterator[Finding]:
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
        meaning="Whoever trains on one and tests on the other tests on known images.",
        remedy="Leave the shared images out of the training set; audit.json names them.",
        rows=rows,
    )
    if split := tuple(cell for cell in labels if cell in set(rows)):
        yield Finding(
            kind="two_labels",
            domains=shared.domains,
            number=len(split),
            title=_count(split, "image has", "images have") + f" one label in {one} and another "
            f"in {other}",
            meaning="The two laboratories name the same cell differently.",
            remedy="Ask an expert which name is right; until then score neither.",
            rows=split,
        )


def _parted(
    found: Sequence[Rows], is_known: Callable[[Rows], bool]
) -> Iterator[tuple[bool, tuple[Rows, ...]]]:
    """News first, then what was known, each where there is any."""
    for wanted in (False, True):
        if rows := tuple(rows for rows in found if is_known(rows) == wanted):
            yield wanted, rows


def _count(rows: Sequence[Rows], one: str, many: str) -> str:
    return f"{len(rows):,} {one if len(rows) == 1 else many}"


def _pairs(rows: Sequence[Rows], one: str, many: str) -> str:
    return _count(
        rows,
        f"pair of frames that share a scene {one}",
        f"pairs of frames that share a scene {many}",
    )
