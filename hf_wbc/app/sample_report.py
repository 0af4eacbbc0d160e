"""The content of a sample's report, from which the files are written: HTML, PDF, JSON and FHIR.

The name of the sample and the reviewer come from the browser with each download. The server keeps
neither.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unicodedata import category

from hf_wbc import __version__
from hf_wbc.app.count import CellCount, CountRow, count_cells
from hf_wbc.app.domains_tab import laboratory_fit
from hf_wbc.app.page_text import cell_name, is_outside
from hf_wbc.app.service import Service
from hf_wbc.app.slide_html import count_rows
from hf_wbc.app.slide_state import Slide
from hf_wbc.evaluation.smear_limits import ReferenceRange
from hf_wbc.taxonomy import CLINICAL_ORDER, NAMES

LONGEST_NAME = 80
RESEARCH_USE = "Research use only: not a medical device. Not for a decision about a patient."
LIMITS = (
    "The model knows eleven classes. Cells of other kinds get one of these names unless it rejects "
    "them or a person names them.",
    "Intervals cover the model's known confusions and the number of cells. They do not cover "
    "another stain, or how the cells were chosen on the slide.",
    "Percentages are relative. Compare them with the absolute counts of an analyzer.",
)
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of what no name needs: controls, invisible signs, halves of letters."""


@dataclass(frozen=True)
class ReportFacts:
    """What only the browser knows."""

    sample: str = "Sample 1"
    reviewer: str = ""
    signed: datetime | None = None
    """When the reviewer signed what the report shows; None for a draft."""


@dataclass(frozen=True)
class ReportRow:
    """A class of the differential beside its reference range."""

    row: CountRow
    range: ReferenceRange | None

    @property
    def percent(self) -> float:
        """Percent of the white cells."""
        return 100 * self.row.fraction

    @property
    def mark(self) -> str:
        """`high`, `low`, or nothing within the range and without one."""
        if self.range is None:
            return ""
        rounded = round(self.percent, 1)
        return "high" if rounded > self.range.high else "low" if rounded < self.range.low else ""


@dataclass(frozen=True)
class SampleReport:
    """The content of a report."""

    facts: ReportFacts
    made: datetime
    count: CellCount | None
    """None if no white cell is left to count."""
    rows: tuple[ReportRow, ...]
    num_cells: int
    num_reviewed: int
    num_changed: int
    not_read: tuple[str, ...]
    """What of the sample is not in the report, such as files that were rejected."""
    scale: str
    fit: str
    model: str
    range_source: str
    groups: tuple[tuple[str, tuple[dict[str, Any], ...]], ...]
    """Cells by class, in clinical order: name, and values of each cell."""

    @property
    def status(self) -> str:
        """Who signed it and when, or that it is a draft."""
        if self.facts.signed is None:
            return "Draft: not signed by a reviewer"
        return f"Signed by {self.facts.reviewer}, {self.facts.signed:%Y-%m-%d %H:%M}"

    @property
    def reviewed(self) -> str:
        """How many cells a person has reviewed."""
        return (
            f"{self.num_reviewed} of {self.num_cells} cells reviewed by a person, "
            f"{self.num_changed} changed"
        )


def report_facts(data: Any, sample: int) -> ReportFacts:
    """Read what the browser sends with a download; anything unusable is left out.

    Args:
        data: `names` by number of the sample, `reviewer`, and `signed` as ISO 8601.
        sample: Number of the sample that is reported.
    """
    data = data if isinstance(data, dict) else {}
    names = data.get("names")
    name = _line(names.get(str(sample)) if isinstance(names, dict) else "")
    reviewer, signed = _line(data.get("reviewer")), None
    with suppress(ValueError, OverflowError):
        signed = datetime.fromisoformat(str(data.get("signed") or "")).astimezone()
    return ReportFacts(name or f"Sample {sample}", reviewer, signed if reviewer else None)


def sample_report(service: Service, slide: Slide, facts: ReportFacts) -> SampleReport:
    """Collect the content of a report."""
    count, cells = count_cells(service, slide), count_rows(service, slide)
    changed = [c for c in slide.cases if c.corrected not in (None, c.prediction.label)]
    not_read = []
    if slide.waiting:
        not_read.append(f"{len(slide.waiting)} cells are not predicted yet, and not in the count")
    if slide.refused:
        not_read.append(f"{len(slide.refused)} files were rejected")
    ranges = service.reference_ranges
    rows = (
        () if count is None else tuple(ReportRow(r, ranges.get(NAMES[r.label])) for r in count.rows)
    )
    return SampleReport(
        facts=facts,
        made=datetime.now().astimezone(),
        count=count,
        rows=rows,
        num_cells=len(slide.cases),
        num_reviewed=sum(case.corrected is not None for case in slide.cases),
        num_changed=len(changed),
        not_read=tuple(not_read),
        scale=_scale(slide),
        fit=laboratory_fit(service, slide),
        model=_model(service),
        range_source="; ".join(dict.fromkeys(r.range.source for r in rows if r.range)),
        groups=_groups(cells),
    )


def _groups(cells: list[dict[str, Any]]) -> tuple[tuple[str, tuple[dict[str, Any], ...]], ...]:
    """Group cells by the class that counts: a person's, else the model's, else none."""
    found: dict[str, list[dict[str, Any]]] = {cell_name(label): [] for label in CLINICAL_ORDER}
    unidentified = "unidentified: unlike the training cells, not in the count"
    for cell in cells:
        given = cell["corrected"]
        if given is not None:
            name = cell_name(given) + (", not in the count" if is_outside(given) else "")
        else:
            name = cell["name"] if cell["is_counted"] else unidentified
        found.setdefault(name, []).append(cell)
    return tuple((name, tuple(some)) for name, some in found.items() if some)


def _scale(slide: Slide) -> str:
    if slide.um_per_px is None:
        return "none yet"
    how = slide.estimate.origin if slide.estimate else "entered"
    doubt = "; mixed scales suspected" if slide.scale_notes else ""
    return f"{slide.um_per_px:.4g} µm per pixel, {how}{doubt}"


def _model(service: Service) -> str:
    toy = ", trained on drawings only" if service.is_toy else ""
    revision = service.predictor.pretrained.revision.removeprefix("sha256:")[:12]
    return f"{service.title}{toy}, revision {revision}; hf_wbc {__version__}"


def _line(value: Any) -> str:
    """One line of text from a browser, without control characters and invisible ones."""
    if not isinstance(value, str):
        return ""
    return "".join(each for each in value if category(each) not in _UNSEEN).strip()[:LONGEST_NAME]


def file_name(facts: ReportFacts, suffix: str) -> str:
    """A name for a download, from the name of the sample."""
    stem = re.sub(r"[^\w-]+", "_", facts.sample).strip("_") or "sample"
    return f"{stem}{suffix}"


def json_values(report: SampleReport) -> Mapping[str, Any]:
    """The report as plain JSON values; shares are in [0, 1]."""
    return {
        "notice": RESEARCH_USE,
        "sample": report.facts.sample,
        "status": report.status,
        "reviewer": report.facts.reviewer,
        "signed": None if report.facts.signed is None else report.facts.signed.isoformat(),
        "made": report.made.isoformat(timespec="seconds"),
        "model": report.model,
        "scale": report.scale,
        "fit": report.fit,
        "num_cells": report.num_cells,
        "num_reviewed": report.num_reviewed,
        "num_changed": report.num_changed,
        "not_read": list(report.not_read),
        "differential": None if report.count is None else report.count.to_dict(),
        "reference_ranges_percent": {
            NAMES[each.row.label]: [each.range.low, each.range.high]
            for each in report.rows
            if each.range
        },
        "cells": [
            {
                "number": cell["number"],
                "image": cell["image"],
                "class": NAMES[cell["label"]],
                "probability": cell["p"],
                "your_class": None if cell["corrected"] is None else cell_name(cell["corrected"]),
                "is_counted": cell["is_counted"],
                "reasons": cell["reasons"],
            }
            for _, cells in report.groups
            for cell in cells
        ],
    }
