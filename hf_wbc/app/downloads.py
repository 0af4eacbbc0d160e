"""What a person takes along: the table as CSV, and a report to print. Nothing is stored here."""

import csv
import io
from datetime import datetime
from typing import Any

from hf_wbc.app.count import is_counted
from hf_wbc.app.html_fragments import fragment
from hf_wbc.app.page_text import OUTSIDE, OUTSIDE_NAME, cell_name
from hf_wbc.app.service import Service
from hf_wbc.app.slide_html import common_warnings, count_html, count_rows
from hf_wbc.app.slide_state import PendingCell, Slide, SlideCell
from hf_wbc.taxonomy import NAMES

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would take for a formula at a cell's beginning."""
NOT_READ = "still to be read, and not in the count"


def write_csv_download(desk: Service, slide: Slide) -> dict[str, str]:
    """Name, kind and text of the table: one row a cell, with all probabilities.

    `counted_as` is empty for a cell that is not in the differential count.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        [
            "number", "image", "class", "probability", "your_class", "counted_as", "conformal_set",
            "rejected", "um_per_px", "scale_guessed", *(f"p_{name}" for name in NAMES), "warnings",
        ]
    )  # fmt: skip
    rows.writerows(_csv_row(one) for one in slide.every)
    return {"name": "cells.csv", "kind": "text/csv", "text": text.getvalue()}


def write_report_download(desk: Service, slide: Slide) -> dict[str, str]:
    """Name, kind and text of a page that prints well and loads nothing."""
    from markupsafe import Markup

    rows = count_rows(desk, slide)
    text = fragment(
        "report.html",
        {
            "desk": desk,
            "slide": slide,
            "count_html": Markup(count_html(desk, slide)),
            "rows": rows,
            "common": common_warnings(slide),
            "to_look": [row for row in rows if row["reasons"] and row["corrected"] is None],
            "your_class": {
                case.number: cell_name(case.corrected)
                for case in slide.cases
                if case.corrected is not None
            },
            "made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
            "revision": desk.predictor.pretrained.revision,
        },
    )
    return {"name": "report.html", "kind": "text/html", "text": text}


def _csv_row(case: SlideCell | PendingCell) -> list[Any]:
    """A cell that waits has only what a person said of it."""
    said, name = case.corrected, case.picture.name
    yours = "" if said is None else OUTSIDE_NAME if said == OUTSIDE else NAMES[said]
    image = f"'{name}" if name.startswith(FORMULA) else name
    if isinstance(case, PendingCell):
        return [case.number, image, "", "", yours, *[""] * (5 + len(NAMES)), NOT_READ]
    answer = case.answer
    return [
        case.number,
        image,
        NAMES[answer.label],
        f"{answer.probabilities[answer.label]:.6f}",
        yours,
        NAMES[case.label] if is_counted(case) else "",
        " ".join(NAMES[label] for label in answer.conformal_set),
        answer.rejected,
        f"{answer.um_per_px:.6g}",
        answer.scale_guessed,
        *(f"{p:.6f}" for p in answer.probabilities),
        " ".join(answer.warnings),
    ]
