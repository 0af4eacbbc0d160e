"""Downloads: the table as CSV, and a report to print. Nothing is stored on the server."""

import io
from datetime import datetime
from typing import Any

from hf_wbc.app.count import is_counted
from hf_wbc.app.html_fragments import fragment
from hf_wbc.app.page_text import cell_name, is_outside, outside_key
from hf_wbc.app.service import Service
from hf_wbc.app.slide_html import common_warnings, count_html, count_rows
from hf_wbc.app.slide_state import PendingCell, Slide, SlideCell
from hf_wbc.escape import write_csv
from hf_wbc.taxonomy import NAMES

NOT_READ = "not predicted yet, and not in the count"


def write_csv_download(service: Service, slide: Slide) -> dict[str, str]:
    """Return name, type and text of the table: one row per cell, with all probabilities.

    `counted_as` is empty for a cell that is not in the differential count.
    """
    text = io.StringIO()
    titles = [
        "number", "image", "class", "probability", "your_class", "counted_as", "conformal_set",
        "rejected", "um_per_px", "scale_guessed", *(f"p_{name}" for name in NAMES), "warnings",
    ]  # fmt: skip
    write_csv(text, titles, (_csv_row(one) for one in slide.every))
    return {"name": "cells.csv", "kind": "text/csv", "text": text.getvalue()}


def write_report_download(service: Service, slide: Slide) -> dict[str, str]:
    """Return name, type and text of a printable, self-contained HTML report."""
    from markupsafe import Markup

    rows = count_rows(service, slide)
    text = fragment(
        "report.html",
        {
            "service": service,
            "slide": slide,
            "count_html": Markup(count_html(service, slide)),
            "rows": rows,
            "common": common_warnings(slide),
            "to_look": [row for row in rows if row["reasons"] and row["corrected"] is None],
            "your_class": {
                case.number: cell_name(case.corrected)
                for case in slide.cases
                if case.corrected is not None
            },
            "made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
            "revision": service.predictor.pretrained.revision,
        },
    )
    return {"name": "report.html", "kind": "text/html", "text": text}


def _csv_row(case: SlideCell | PendingCell) -> list[Any]:
    """One row; a pending cell has only its correction."""
    label, name = case.corrected, case.picture.name
    yours = "" if label is None else outside_key(label) if is_outside(label) else NAMES[label]
    if isinstance(case, PendingCell):
        return [case.number, name, "", "", yours, *[""] * (5 + len(NAMES)), NOT_READ]
    prediction = case.prediction
    return [
        case.number,
        name,
        NAMES[prediction.label],
        f"{prediction.probabilities[prediction.label]:.6f}",
        yours,
        NAMES[case.label] if is_counted(case) else "",
        " ".join(NAMES[label] for label in prediction.conformal_set),
        prediction.rejected,
        f"{prediction.um_per_px:.6g}",
        prediction.scale_guessed,
        *(f"{p:.6f}" for p in prediction.probabilities),
        " ".join(prediction.warnings),
    ]
