"""`hf-wbc find`: find the white cells of fields of view and whole slides."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from hf_wbc.cli.path_arguments import OutputFolder
from hf_wbc.escape import print_plain
from hf_wbc.inference.options import RuntimeName

if TYPE_CHECKING:
    from hf_wbc.finder.find_result import FindResult

COMMON = {"um_per_px", "model", "overlays", "skip_bad", "evaluate"}
"""Flags that `--help` shows besides --out."""
MOST_LINES = 20
"""Fields whose notes are printed; fields.csv has all of them."""


def find(
    fields: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FIELDS")],
    out: OutputFolder,
    model: str | None = None,
    um_per_px: float | None = None,
    overlays: bool = False,
    skip_bad: bool = False,
    runtime: RuntimeName = "auto",
    evaluate: Path | None = None,
    boxes: tuple[str, ...] = (),
    max_gigapixels: float | None = None,
) -> None:
    """Find the white cells of fields of view and whole slides.

    Example: hf-wbc find smear --out cells --model runs/RUN/model --overlays

    Writes cells.csv, fields.csv, and a crop of 25 um around each cell. The same command
    resumes an interrupted one.

    Args:
        fields: A picture of a field, a whole slide (extra `slides`), or a folder of them.
        out: The folder to write.
        model: Classify the cells: a run's model folder, or a Hub model `org/name[@revision]`.
        um_per_px: Scale in um per pixel. Without one, the red cells of all fields give it; slides
            state their own.
        overlays: Also draw each field with numbered boxes.
        skip_bad: Leave out fields that cannot be read, and name them.
        runtime: What computes the classes.
        evaluate: Compare with boxes that people drew: a folder of Pascal VOC (.xml) or YOLO (.txt)
            files, named like the fields.
        boxes: Names of the boxes of white cells; if omitted, wbc and leukocyte.
        max_gigapixels: Largest slide to search; if omitted, 21, and more for large files. It keeps
            a tiny file that claims an enormous slide from taking days.
    """
    from hf_wbc.cli.display import stage_progress
    from hf_wbc.finder.boxes import find_box_files
    from hf_wbc.finder.field_source import list_fields
    from hf_wbc.finder.find_folder import FindOptions, find_to_folder

    if evaluate is not None:  # fail before any work is done
        boxed = find_box_files(evaluate)
        if not any(Path(name).stem in boxed for name in list_fields(fields)[1]):
            raise ValueError(f"no field has a file of boxes of the same name in {evaluate}")
    options = FindOptions(um_per_px, overlays, skip_bad, max_gigapixels)
    classify = None
    if model is not None:
        from hf_wbc.inference.classify_crops import crop_classifier

        classify = crop_classifier(model, runtime)
    with stage_progress() as report:
        result = find_to_folder(fields, out, options, classify, model or "", report)
    print_plain("\n".join(summary(result)))
    if evaluate is not None:
        print_plain(evaluation(result, evaluate, boxes))


def summary(result: "FindResult") -> Sequence[str]:
    """Describe what was found in a few lines."""
    from collections import Counter

    from hf_wbc.text import plural

    num = plural(len(result.fields), "field")
    lines = [f"{result.out}: {plural(result.num_cells, 'cell')} in {num}"]
    flags = Counter(flag for field in result.fields for cell in field.cells for flag in cell.flags)
    if flags:
        lines.append(f"flags: {', '.join(f'{name} {num:,}' for name, num in flags.most_common())}")
    labels = result.labels.values()
    classes = Counter(label.name for label in labels if not label.is_rejected)
    if classes:
        named = ", ".join(f"{name} {num:,}" for name, num in classes.most_common())
        lines.append(f"classes: {named}")
    if rejected := sum(label.is_rejected for label in labels):
        kinds = Counter(label.outlier for label in labels if label.outlier)
        alike = "".join(f", {number:,} look like a {kind}" for kind, number in kinds.items())
        lines.append(f"rejected as none of the classes: {rejected:,}{alike}")
    lines += result.notes
    noted = [f"{field.name}: {'; '.join(field.notes)}" for field in result.fields if field.notes]
    lines += noted[:MOST_LINES]
    if len(noted) > MOST_LINES:
        lines.append(f"and {len(noted) - MOST_LINES:,} more fields with notes, see fields.csv")
    return lines


def evaluation(result: "FindResult", folder: Path, names: Sequence[str]) -> str:
    """Compare the cells with boxes: recall, precision, and the fields with errors."""
    from hf_wbc.finder.boxes import (
        MATCH_UM,
        WHITE_CELLS,
        find_box_files,
        match_boxes,
        read_boxes,
        total,
    )
    from hf_wbc.text import shorten_list

    files = find_box_files(folder)
    matches, missed, extra = [], [], []
    for field in result.fields:
        stem = Path(field.name).stem
        if stem not in files:
            continue
        boxes = read_boxes(files[stem], (field.width, field.height), names or WHITE_CELLS)
        points = [(cell.x_px, cell.y_px) for cell in field.cells]
        match = match_boxes(points, boxes, field.um_per_px)
        matches.append(match)
        missed += [field.name] * bool(match.missed)
        extra += [field.name] * bool(match.extra)
    if not matches:
        raise ValueError(f"no field has a file of boxes of the same name in {folder}")
    each = total(matches)
    lines = [
        f"{len(matches):,} fields with boxes, {each.num_boxes:,} boxes, {each.num_found:,} cells: "
        f"recall {each.recall:.3f}, precision {each.precision:.3f} (within {MATCH_UM:g} um of the "
        "center of the box)"
    ]
    lines += [f"missed in {shorten_list(missed)}"] if missed else []
    lines += [f"without a box in {shorten_list(extra)}"] if extra else []
    return "\n".join(lines)
