"""A slide as HTML: the differential count and the table of cells."""

from collections import Counter
from collections.abc import Collection
from typing import Any

from hf_wbc.app import html_fragments
from hf_wbc.app.count import count_cells, is_counted
from hf_wbc.app.html_fragments import fragment, notice
from hf_wbc.app.page_text import (
    OUTSIDE,
    cell_name,
    lineage_label,
    reasons_to_look,
    remaining_warnings,
)
from hf_wbc.app.service import Service
from hf_wbc.app.slide_state import Slide, SlideCell
from hf_wbc.taxonomy import CLINICAL_ORDER

FEWEST_ALIKE = 3
"""Up to this many cells, a shared warning is shown beside each of them."""
NOTHING = (
    "No white cell is left to count: the model rejected the cells as unlike its training cells, or "
    "they are nucleated red cells, or you marked them as none of the eleven. Check the scale, and "
    "name the cells that are white cells."
)
CLASSES = [(label, cell_name(label)) for label in CLINICAL_ORDER]


def count_html(service: Service, slide: Slide) -> str:
    """Render the differential count, or a sentence if no cell is left to count."""
    count = count_cells(service, slide)
    return notice(NOTHING) if count is None else fragment("count.html", {"count": count})


def cells_html(service: Service, slide: Slide) -> str:
    """Render the table of cells with the reasons to review them."""
    rows = count_rows(service, slide)
    return fragment(
        "cells.html",
        {
            "rows": rows,
            "classes": CLASSES,
            "outside": list(OUTSIDE.items()),
            "common": common_warnings(slide),
            "num_to_look": sum(bool(row["reasons"]) for row in rows),
        },
    )


def count_rows(service: Service, slide: Slide) -> list[dict[str, Any]]:
    """The values of each row of the table."""
    shown = common_warnings(slide)
    return [_row(service, case, shown) for case in slide.cases]


def common_warnings(slide: Slide) -> dict[str, int]:
    """The warnings that most cells share, with the number of cells; the page shows them once."""
    counts = Counter(each for case in slide.cases for each in remaining_warnings(case.prediction))
    return {
        each: num for each, num in counts.items() if num > max(len(slide.cases) / 2, FEWEST_ALIKE)
    }


def _row(service: Service, case: SlideCell, shown: Collection[str]) -> dict[str, Any]:
    prediction = case.prediction
    return {
        "number": case.number,
        "image": case.picture.name,
        "uri": html_fragments.small(case.picture.pixels, prediction),
        "label": prediction.label,
        "name": cell_name(prediction.label),
        "lineage": lineage_label(prediction.label),
        "p": float(prediction.probabilities[prediction.label]),
        "reasons": reasons_to_look(prediction, service.always_in_set, service.blasts_from, shown),
        "is_counted": is_counted(case),
        "corrected": case.corrected,
    }
