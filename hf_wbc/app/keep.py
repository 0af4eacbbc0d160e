"""What a person takes along: the table as CSV, and a report to print. Nothing is stored here."""

import csv
import io
from datetime import datetime
from typing import Any

from hf_wbc.app.count import count_of
from hf_wbc.app.desk import Case, Desk, Slide
from hf_wbc.app.fragments import fragment
from hf_wbc.app.slide_html import rows_of
from hf_wbc.app.words import OUTSIDE, OUTSIDE_NAME, cell_name
from hf_wbc.taxonomy import NAMES

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would take for a formula at a cell's beginning."""


def csv_file(desk: Desk, slide: Slide) -> dict[str, str]:
    """Name, kind and text of the table: one row a cell, with all probabilities."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        [
            "number", "image", "class", "probability", "your_class", "conformal_set", "rejected",
            "um_per_px", "scale_guessed", *(f"p_{name}" for name in NAMES), "warnings",
        ]
    )  # fmt: skip
    rows.writerows(_csv_row(case) for case in slide.cases)
    return {"name": "cells.csv", "kind": "text/csv", "text": text.getvalue()}


def report_file(desk: Desk, slide: Slide) -> dict[str, str]:
    """Name, kind and text of a page that prints well and loads nothing."""
    rows = rows_of(desk, slide)
    text = fragment(
        "report.html",
        {
            "desk": desk,
            "slide": slide,
            "count": count_of(desk, slide),
            "rows": rows,
            "to_look": [row for row in rows if row["reasons"]],
            "your_class": {
                case.number: cell_name(case.corrected)
                for case in slide.cases
                if case.corrected is not None
            },
            "made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
            "revision": desk.predictor.loaded.revision,
        },
    )
    return {"name": "report.html", "kind": "text/html", "text": text}


def _csv_row(case: Case) -> list[Any]:
    answer, said = case.answer, case.corrected
    name = case.picture.name
    return [
        case.number,
        f"'{name}" if name.startswith(FORMULA) else name,
        NAMES[answer.label],
        f"{answer.probabilities[answer.label]:.6f}",
        "" if said is None else OUTSIDE_NAME if said == OUTSIDE else NAMES[said],
        " ".join(NAMES[label] for label in answer.conformal),
        answer.rejected,
        f"{answer.um_per_px:.6g}",
        answer.scale_guessed,
        *(f"{p:.6f}" for p in answer.probabilities),
        " ".join(answer.warnings),
    ]
