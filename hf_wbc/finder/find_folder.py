"""Find the cells of fields and slides, and write their crops and a table: `hf-wbc find`.

OUT/cells.csv       a row per cell: place, size, scale, class and flags
OUT/fields.csv      a row per field: size, number of cells and what is wrong with it
OUT/find.json       scale, options and everything that a person should know
OUT/crops/FIELD/    25 um crops, one PNG per cell
OUT/overlays/       the fields with numbered boxes, if wanted

Everything is written to OUT.partial and moved at the end. Each measured field and each searched
tile is a file there, from which the same call resumes.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from hf_wbc.data.archive_names import printable_name
from hf_wbc.data.crop import crop_side, cut_square
from hf_wbc.data.folder_walk import walk_folder
from hf_wbc.data.image_io import ImageFault
from hf_wbc.data.scale import ScaleEstimate
from hf_wbc.finder.detect_cells import (
    Candidate,
    FoundCell,
    candidates,
    select,
    tiles,
)
from hf_wbc.finder.field_quality import Quality, field_notes, is_blurred
from hf_wbc.finder.field_scale import (
    Measured,
    measure_field,
    measured_part,
    nuclei_estimate,
    pooled_scale,
    scale_notes,
)
from hf_wbc.finder.field_source import FieldSource, list_fields, open_field
from hf_wbc.finder.find_result import CellLabel, FindResult, FoundField, write_tables
from hf_wbc.finder.overlay import draw_boxes
from hf_wbc.preparation.work_folder import WorkFolder, lock_work_folder, report_full_disk
from hf_wbc.records import atomic_replace, digest, read_json, remove, write_json

VERSION = 2
"""Version of the finder, which names unfinished work; raise it when found cells change."""
FINEST, COARSEST = 0.02, 1.0
"""Accepted scales in um per pixel."""
Report = Callable[[str, int, int], None]
"""Called with a stage, the number done and the total."""
Classify = Callable[[Path, float, Path], Mapping[str, CellLabel]]
"""Classifies a folder of crops at a scale, with a folder for unfinished work, by crop."""
_Part = TypeVar("_Part")


@dataclass(frozen=True)
class FindOptions:
    """How fields are searched."""

    um_per_px: float | None = None
    """Scale of all fields in um per pixel; without one, the red cells of all fields give it."""
    overlays: bool = False
    """Also draw every field with numbered boxes."""
    skip_bad: bool = False
    """Leave out fields that cannot be read, and name them."""
    max_gigapixels: float | None = None
    """Largest width x height of a slide; without it, the size of its file limits them."""


def find_to_folder(
    path: Path,
    out: Path,
    options: FindOptions | None = None,
    classify: Classify | None = None,
    model: str = "",
    on_progress: Report = lambda stage, done, total: None,
) -> FindResult:
    """Find the cells of fields and slides, and write their crops and tables.

    Args:
        path: A field, a slide, or a folder of them.
        out: The folder to write; it must not exist, unless this call has made it before.
        options: Scale and so on.
        classify: Classifies the crops; None finds them only.
        model: What names the classifier in the records.
        on_progress: Called with the stage, the number done and the total.

    Raises:
        ValueError: For an impossible scale, fields that cannot be read (unless `skip_bad`), no
            readable field, or a folder that holds something else.
    """
    options = options or FindOptions()
    check_scale(options.um_per_px)
    folder, names, others = list_fields(path)
    plan = {
        "version": VERSION,
        "options": asdict(options),
        "model": model,
        "fields": [_facts(folder, name) for name in names],
    }
    with report_full_disk(out), lock_work_folder(out) as work:
        if out.exists() and not _is_own(out, plan):
            raise ValueError(f"{out} exists and holds something else; choose another --out")
        root = _plan_folder(work, plan)
        search = _Search(root, folder, names, options, on_progress)
        result = replace(search.run(classify), out=out)
        notes = [*result.notes, *(walk_folder(path).notes() if path.is_dir() else ())]
        if others:
            notes.append(f"skipped, not fields: {len(others)} files, such as {others[0]}")
        result = replace(result, notes=tuple(map(printable_name, notes)))
        write_tables(root / "out", result, digest(plan), model)
        if out.exists():
            remove(out)
        (root / "out").rename(out)
        work.remove()
    return result


def check_scale(um_per_px: float | None) -> None:
    """Raise ValueError for a scale at which no microscope takes pictures of smears."""
    if um_per_px is not None and not FINEST <= um_per_px <= COARSEST:
        raise ValueError(
            f"um_per_px is {um_per_px}; a field of a smear has {FINEST} to {COARSEST} um per pixel"
        )


def _facts(folder: Path, name: str) -> list[Any]:
    try:
        stat = (folder / name).stat()
    except OSError:
        return [name]
    return [name, stat.st_size, stat.st_mtime_ns]


def _is_own(out: Path, plan: Mapping[str, Any]) -> bool:
    """Return whether a folder is empty or the result of the same plan."""
    if out.is_dir() and not any(out.iterdir()):
        return True
    record = out / "find.json"
    return record.is_file() and read_json(record).get("plan") == digest(plan)


def _plan_folder(work: WorkFolder, plan: Mapping[str, Any]) -> Path:
    """Return the folder of this plan as an earlier process left it; delete those of others."""
    root = work.root / digest(plan)
    for other in work.root.iterdir():
        if other.is_dir() and other != root:
            remove(other)
    for part in ("measured", "found", "tiles", "classified", "out/crops"):
        (root / part).mkdir(parents=True, exist_ok=True)
    return root


def _kept(
    path: Path, parse: Callable[[dict[str, Any]], _Part], make: Callable[[], dict[str, Any]]
) -> _Part:
    """Return a part of the work as it was written before; make it if it is missing or damaged."""
    try:
        return parse(read_json(path))
    except (KeyError, TypeError, ValueError):
        write_json(path, make())
    return parse(read_json(path))


def _candidates(facts: Mapping[str, Any]) -> list[Candidate]:
    return [
        Candidate(FoundCell.from_dict(cell), np.array(values))
        for cell, values in facts["candidates"]
    ]


@dataclass(frozen=True)
class _Search:
    """One call of `find_to_folder` in its work folder."""

    root: Path
    folder: Path
    names: Sequence[str]
    options: FindOptions
    report: Report

    def run(self, classify: Classify | None) -> FindResult:
        measured = list(self._measure())
        faults = [each.fault for each in measured if each.fault]
        if faults and (not self.options.skip_bad or len(faults) == len(measured)):
            more = "" if self.options.skip_bad else "; fix them, or leave them out with --skip-bad"
            raise ValueError(
                f"{len(faults)} of {len(measured)} fields cannot be used: "
                f"{'; '.join(faults[:10])}{more}"
            )
        unique, notes = _without_duplicates([each for each in measured if not each.fault])
        given = self.options.um_per_px
        estimate = None
        if given is None and any(each.um_per_px is None for each in unique):
            estimate = self._estimate([each for each in unique if each.um_per_px is None])
            notes += estimate.sentences
        scales = [_scale(each, given, estimate) for each in unique]
        notes += scale_notes(unique, scales)
        fields = []
        for number, (each, um_per_px) in enumerate(zip(unique, scales, strict=True)):
            self.report("find", number, len(unique))
            fields.append(self._find(each, um_per_px))
        self.report("find", len(unique), len(unique))
        labels: dict[str, CellLabel] = {}
        if classify is not None:
            labels = dict(self._classified(classify, fields))
        notes += [f"left out: {fault}" for fault in faults]
        return FindResult(self.root, tuple(fields), labels, tuple(notes))

    def _open(self, name: str) -> AbstractContextManager[FieldSource]:
        return open_field(self.folder, name, self.options.max_gigapixels)

    def _measure(self) -> Iterator[Measured]:
        """Measure every field that has not been measured yet; unreadable ones are tried again."""
        for number, name in enumerate(self.names):
            self.report("measure", number, len(self.names))
            path = self.root / "measured" / f"{number:07}.json"

            def measure(name: str = name) -> dict[str, Any]:
                with self._open(name) as source:
                    return asdict(measure_field(source))

            try:
                yield _kept(path, Measured.from_dict, measure)
            except ImageFault as error:
                yield Measured(printable_name(name), fault=printable_name(str(error)))
        self.report("measure", len(self.names), len(self.names))

    def _estimate(self, measured: Sequence[Measured]) -> ScaleEstimate:
        """Estimate one scale from the red cells of all fields, else from their nuclei."""
        estimate = pooled_scale(measured)
        if estimate is not None:
            return estimate

        def parts() -> Iterator[np.ndarray[Any, Any]]:
            for each in measured:
                with self._open(each.name) as source:
                    yield measured_part(source)

        return nuclei_estimate(parts(), [each.name for each in measured])

    def _find(self, measured: Measured, um_per_px: float) -> FoundField:
        """Find the cells of a field and write their crops, or read what has been found."""
        key = digest({"field": measured.name})

        def search() -> dict[str, Any]:
            with self._open(measured.name) as source:
                return asdict(self._search(source, um_per_px, key))

        return _kept(self.root / "found" / f"{key}.json", FoundField.from_dict, search)

    def _search(self, source: FieldSource, um_per_px: float, key: str) -> FoundField:
        size = source.height, source.width
        found: list[Candidate] = []
        each = list(tiles(*size, um_per_px))
        for number, tile in enumerate(each):
            path = self.root / "tiles" / f"{key}-{number:07}.json"
            if not source.is_slide:
                found += candidates(source.read, size, um_per_px, tile)
                continue
            self.report(f"search {source.name}", number, len(each))

            def search(tile: Any = tile) -> dict[str, Any]:
                part = candidates(source.read, size, um_per_px, tile)
                return {"candidates": [[asdict(one.cell), one.measured.tolist()] for one in part]}

            found += _kept(path, _candidates, search)
        cells = select(found, size, um_per_px)
        checked = []
        with atomic_replace(self.root / "out/crops" / source.name) as crops:
            crops.mkdir(parents=True)
            for number, cell in enumerate(cells, 1):
                pixels = cut_cell(source, cell, um_per_px)
                Image.fromarray(pixels).save(crops / f"{number:04}.png", compress_level=1)
                blurred = is_blurred(pixels, um_per_px)
                checked.append(replace(cell, flags=(*cell.flags, *(["blurred"] * blurred))))
        if self.options.overlays and not source.is_slide:
            image = draw_boxes(source.read(0, 0, *size), checked, um_per_px)
            target = self.root / "out/overlays" / f"{source.name}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            image.save(target, quality=90)
        notes = field_notes(Quality.of(source, checked, um_per_px))
        return FoundField(
            source.name, source.width, source.height, tuple(checked), notes, um_per_px
        )

    def _classified(
        self, classify: Classify, fields: Sequence[FoundField]
    ) -> Iterator[tuple[str, CellLabel]]:
        """Classify the crops of each scale together."""
        for um_per_px in sorted({field.um_per_px for field in fields if field.cells}):
            names = [f.name for f in fields if f.um_per_px == um_per_px and f.cells]
            work = self.root / "classified" / f"{um_per_px!r}"
            with _linked(self.root / "out/crops", names, work / "crops") as crops:
                yield from classify(crops, um_per_px, work / "blocks").items()


@contextmanager
def _linked(crops: Path, names: Sequence[str], folder: Path) -> Iterator[Path]:
    """Yield a folder that holds the crops of some fields only."""
    for name in names:
        for path in sorted((crops / name).glob("*.png")):
            target = folder / name / path.name
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                try:
                    target.hardlink_to(path)
                except OSError:  # a file system without hard links, such as exFAT
                    with atomic_replace(target) as temporary:
                        shutil.copyfile(path, temporary)
    yield folder
    remove(folder)


def cut_cell(source: FieldSource, cell: FoundCell, um_per_px: float) -> np.ndarray[Any, Any]:
    """Return the 25 um crop of a cell (S, S, 3) at the resolution of the field."""
    side = crop_side(um_per_px)
    left, top = round(cell.x_px - side / 2), round(cell.y_px - side / 2)
    y, x = max(top, 0), max(left, 0)
    part = source.read(y, x, min(top + side, source.height), min(left + side, source.width))
    return cut_square(part, (left - x, top - y, left - x + side, top - y + side))


def _scale(measured: Measured, given: float | None, estimate: ScaleEstimate | None) -> float:
    """Return the scale of a field: as given, as the slide states, or as estimated."""
    if given is not None:
        return given
    if measured.um_per_px is not None:
        return measured.um_per_px
    assert estimate is not None
    return estimate.um_per_px


def _without_duplicates(measured: Sequence[Measured]) -> tuple[list[Measured], list[str]]:
    """Leave out every field whose pixels another one has; name both."""
    first: dict[str, str] = {}
    unique, notes = [], []
    for each in measured:
        if each.digest in first:
            what = "slide (a file of the same series)" if each.is_slide else "field"
            notes.append(f"{each.name} is the same {what} as {first[each.digest]}: left out")
            continue
        if each.digest is not None:
            first[each.digest] = each.name
        unique.append(each)
    return unique, notes
