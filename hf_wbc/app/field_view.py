"""Show a field of view with numbered boxes; a click on a box shows that cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_wbc.app import html_fragments
from hf_wbc.app.html_fragments import fragment
from hf_wbc.app.page_text import cell_name, is_outside
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.upload_reader import UploadedImage
from hf_wbc.taxonomy import CLASSES

if TYPE_CHECKING:
    from hf_wbc.inference.cell_prediction import CellPrediction

BOX_UM = 14.0
"""Side of a box on the field in um: a cell rather than its 25 um crop, so that neighbors differ."""
DENSE_SHARE = 0.04
"""Side of a box relative to that of the field below which its number stands beside it."""
FIELD_PX = 1400
"""Longest side of the shown field in pixels."""
SMALL_FIELD_PX = 880
"""Longest side in pixels of a field in a row of several."""
MOST_FIELDS = 12
"""Fields that a sample shows at a time; the gallery has the cells of all."""
MOST_TOP = 3
"""Classes whose probabilities are shown for a cell."""
FLAG_TEXT = {
    "overlapping": "another cell lies in the crop",
    "clipped": "the border of the field cuts the cell",
    "clump": "several nuclei that could not be told apart",
    "crowded": "the field is too crowded for a count",
}
"""The finder's flags as a person reads them."""


@dataclass(frozen=True)
class ShownCell:
    """A cell of a field."""

    number: int
    """Number of the cell in the sample, shown on its box."""
    picture: UploadedImage
    prediction: "CellPrediction"
    label: int
    """The class that a person or the model gave it."""
    is_unidentified: bool
    """Whether the model rejects it and no person has named it."""


def field_html(
    field: UploadedImage,
    cells: Sequence[ShownCell],
    name: str = "field",
    is_one_of_many: bool = False,
    has_gallery: bool = False,
) -> str:
    """Render a field with its cells.

    Args:
        field: The whole picture.
        cells: The cells that were found in it.
        name: Tells the fields of a page apart.
        is_one_of_many: Whether it stands in a row of fields, which says what they share.
        has_gallery: Whether a gallery below shows the same cells.
    """
    height, width = field.pixels.shape[:2]
    return fragment(
        "field_view.html",
        {
            "name": name,
            "file": field.name,
            "uri": html_fragments.picture_uri(
                field.pixels, SMALL_FIELD_PX if is_one_of_many else FIELD_PX
            ),
            "is_one_of_many": is_one_of_many,
            "has_gallery": has_gallery,
            "is_dense": bool(cells)
            and BOX_UM / cells[0].prediction.um_per_px < DENSE_SHARE * max(width, height),
            "width": width,
            "height": height,
            "cells": [_cell(each, width, height) for each in cells],
            "um_per_px": cells[0].prediction.um_per_px if cells else 0.0,
            "is_crowded": any("crowded" in _flags(each) for each in cells),
        },
    )


def slide_fields_html(slide: Slide) -> str:
    """Render the fields of a sample, each with its cells."""
    fields: dict[str, tuple[UploadedImage, list[ShownCell]]] = {}
    for case in slide.cases:
        if case.picture.origin is not None:
            whole = case.picture.whole
            is_unidentified = case.prediction.rejected and case.corrected is None
            shown = ShownCell(
                case.number, case.picture, case.prediction, case.label, is_unidentified
            )
            fields.setdefault(whole.digest, (whole, []))[1].append(shown)
    parts = [
        field_html(whole, cells, f"field-{number}", len(fields) > 1, has_gallery=True)
        for number, (whole, cells) in enumerate([*fields.values()][:MOST_FIELDS], 1)
    ]
    if len(fields) < 2:
        return "".join(parts)
    return fragment(
        "field_row.html",
        {
            "fields": parts,
            "num_fields": len(fields),
            "num_cells": sum(len(cells) for _, cells in fields.values()),
            "num_left": len(fields) - len(parts),
            "um_per_px": slide.um_per_px,
        },
    )


def _flags(cell: ShownCell) -> tuple[str, ...]:
    assert cell.picture.origin is not None
    return cell.picture.origin.flags


def _cell(cell: ShownCell, width: int, height: int) -> dict[str, Any]:
    """Return what the template shows of a cell; the box is in percent of the field."""
    origin, prediction = cell.picture.origin, cell.prediction
    assert origin is not None
    side = BOX_UM / prediction.um_per_px
    order = sorted(range(len(CLASSES)), key=lambda label: -prediction.probabilities[label])
    left, top = max(origin.x_px - side / 2, 0), max(origin.y_px - side / 2, 0)
    right, bottom = min(origin.x_px + side / 2, width), min(origin.y_px + side / 2, height)
    is_known = not is_outside(cell.label)
    return {
        "number": cell.number,
        "left": 100 * left / width,
        "top": 100 * top / height,
        "width": 100 * (right - left) / width,
        "height": 100 * (bottom - top) / height,
        "name": cell_name(cell.label),
        "lineage": CLASSES[cell.label].lineage if is_known else "",
        "p": float(prediction.probabilities[prediction.label]),
        "top_classes": [
            (cell_name(label), float(prediction.probabilities[label])) for label in order[:MOST_TOP]
        ],
        "rejected": cell.is_unidentified,
        "uri": html_fragments.crop_image(cell.picture.pixels, prediction),
        "flags": [FLAG_TEXT[flag] for flag in FLAG_TEXT if flag in origin.flags],
    }
