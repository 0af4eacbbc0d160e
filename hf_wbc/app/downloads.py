"""Downloads: the cells as CSV, and the report as PDF, HTML, JSON and FHIR.

Nothing is stored on the server.
"""

import base64
import io
import json
from typing import Any

from hf_wbc.app.count import is_counted
from hf_wbc.app.html_fragments import fragment
from hf_wbc.app.page_text import is_outside, outside_key
from hf_wbc.app.report_fhir import fhir_bundle
from hf_wbc.app.report_pdf import pdf_bytes
from hf_wbc.app.sample_report import (
    LIMITS,
    RESEARCH_USE,
    ReportFacts,
    file_name,
    json_values,
    sample_report,
)
from hf_wbc.app.service import Service
from hf_wbc.app.slide_state import PendingCell, Slide, SlideCell
from hf_wbc.escape import write_csv
from hf_wbc.taxonomy import NAMES

NOT_READ = "not predicted yet, and not in the count"


def write_csv_download(service: Service, slide: Slide, facts: ReportFacts) -> dict[str, str]:
    """Return name, type and text of the table: one row per cell, with all probabilities.

    `counted_as` is empty for a cell that is not in the differential count.
    """
    text = io.StringIO()
    titles = [
        "number", "image", "class", "probability", "your_class", "counted_as", "conformal_set",
        "rejected", "um_per_px", "scale_guessed", *(f"p_{name}" for name in NAMES), "warnings",
    ]  # fmt: skip
    write_csv(text, titles, (_csv_row(one) for one in slide.every))
    return {"name": file_name(facts, ".csv"), "kind": "text/csv", "text": text.getvalue()}


def write_html_download(service: Service, slide: Slide, facts: ReportFacts) -> dict[str, str]:
    """Return name, type and text of a printable, self-contained HTML report."""
    report = sample_report(service, slide, facts)
    values = {"report": report, "limits": LIMITS, "research_use": RESEARCH_USE}
    text = fragment("report.html", values)
    return {"name": file_name(facts, ".html"), "kind": "text/html", "text": text}


def write_pdf_download(service: Service, slide: Slide, facts: ReportFacts) -> dict[str, str]:
    """Return name, type and base64 of the report as a PDF; ValueError without ReportLab."""
    data = base64.b64encode(pdf_bytes(sample_report(service, slide, facts))).decode()
    return {"name": file_name(facts, ".pdf"), "kind": "application/pdf", "base64": data}


def write_json_download(service: Service, slide: Slide, facts: ReportFacts) -> dict[str, str]:
    """Return name, type and text of the report as JSON."""
    text = json.dumps(json_values(sample_report(service, slide, facts)), indent=1)
    return {"name": file_name(facts, ".json"), "kind": "application/json", "text": text}


def write_fhir_download(service: Service, slide: Slide, facts: ReportFacts) -> dict[str, str]:
    """Return name, type and text of the report as a FHIR bundle; ValueError without a count."""
    text = json.dumps(fhir_bundle(sample_report(service, slide, facts)), indent=1)
    return {"name": file_name(facts, "_fhir.json"), "kind": "application/fhir+json", "text": text}


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
