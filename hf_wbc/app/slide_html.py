"""A slide as HTML: its count, and the table of its cells."""

from collections import Counter
from collections.abc import Collection
from typing import Any

from hf_wbc.app import html_fragments
from hf_wbc.app.count import count_cells, is_counted
from hf_wbc.app.html_fragments import fragment, notice
from hf_wbc.app.page_text import (
    OUTSIDE,
    OUTSIDE_NAME,
    cell_name,
    lineage_label,
    reasons_to_look,
    remaining_warnings,
)
from hf_wbc.app.service import Service
from hf_wbc.app.slide_state import Slide, SlideCell
from hf_wbc.plots.style import lineage_order
from hf_wbc.taxonomy import NAMES

FEWEST_ALIKE = 3
"""Cells up to which a warning stands beside each of them."""
NOTHING = (
    "No cell is left to count: all are unlike the cells that the model knows, or none of the "
    "eleven by your word. Is the scale right? Name those that are white cells."
)
CLASSES = [(label, cell_name(label)) for label in lineage_order(NAMES)]


def count_html(desk: Service, slide: Slide) -> str:
    """The differential count; a sentence where no cell is left to count."""
    count = count_cells(desk, slide)
    return notice(NOTHING) if count is None else fragment("count.html", {"count": count})


def cells_html(desk: Service, slide: Slide) -> str:
    """The table; cells that a person should look at say why."""
    rows = count_rows(desk, slide)
    return fragment(
        "cells.html",
        {
            "rows": rows,
            "classes": [*CLASSES, (OUTSIDE, OUTSIDE_NAME)],
            "common": common_warnings(slide),
            "num_to_look": sum(bool(row["reasons"]) for row in rows),
        },
    )


def count_rows(desk: Service, slide: Slide) -> list[dict[str, Any]]:
    """What a table says of each cell."""
    said = common_warnings(slide)
    return [_row(desk, case, said) for case in slide.cases]


def common_warnings(slide: Slide) -> dict[str, int]:
    """Warnings that most of the cells have, and how many: they are said once."""
    counts = Counter(each for case in slide.cases for each in remaining_warnings(case.answer))
    return {
        each: num for each, num in counts.items() if num > max(len(slide.cases) / 2, FEWEST_ALIKE)
    }


def _row(desk: Service, case: SlideCell, said: Collection[str]) -> dict[str, Any]:
    answer = case.answer
    return {
        "number": case.number,
        "image": case.picture.name,
        "uri": html_fragments.small(case.picture.pixels, answer),
        "label": answer.label,
        "name": cell_name(answer.label),
        "lineage": lineage_label(answer.label),
        "p": float(answer.probabilities[answer.label]),
        "reasons": reasons_to_look(answer, desk.always_in_set, desk.blasts_from, said),
        "is_counted": is_counted(case),
        "corrected": case.corrected,
    }
