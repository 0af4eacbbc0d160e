"""HTML page of the report: tables, figures, limitations and problems of a comparison."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hf_wbc.comparison.collect import Collection
from hf_wbc.comparison.compare import Comparison, compare
from hf_wbc.comparison.report.figures import (
    KINDS,
    ReportImages,
    ReportSection,
    make_report_images,
    report_sections,
)
from hf_wbc.comparison.report.tables import (
    abstention_summaries,
    against,
    brief,
    limits,
    other_settings,
    rule_tables,
    versions,
)
from hf_wbc.comparison.score_sections import optional_sections
from hf_wbc.comparison.sections import reference_sections
from hf_wbc.plots.html import render_page
from hf_wbc.records import atomic_replace
from hf_wbc.taxonomy import NAMES, Consequence, Relation
from hf_wbc.text import with_spaces

TEMPLATE = "model_cards/study.html"
LIMIT_BYTES = 5_000_000
"""Maximum size of the page, so that it can be sent by email."""
SPARE_BYTES = 60_000
RELATIONS = {
    Relation.SAME: "same class",
    Relation.ONE_STEP: "adjacent stage",
    Relation.SAME_LINEAGE: "same lineage",
    Relation.CROSS_LINEAGE: "other lineage",
}
CONSEQUENCES = {
    Consequence.MINOR: "",
    Consequence.SERIOUS: "serious",
    Consequence.CRITICAL: "critical: a blast or promyelocyte is missed",
}


FILTERS: dict[str, Callable[..., Any]] = {
    "f3": lambda value: "–" if value is None else f"{value:.3f}",
    "signed": lambda value: f"{value:+.3f}".replace("-", "−"),
    "arrow": lambda direction: direction.replace("->", "→"),
    "class_name": lambda label: with_spaces(NAMES[label]),
    "hours": lambda hours: f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min",
    "memory": lambda size: f"{size / 2**30:.1f} GiB",
    "number": lambda value: f"{value:,.0f}",
    "p": lambda p: "<0.001" if p < 0.001 else f"{p:.3f}",
}


def render(collection: Collection, out: Path, comparison: Comparison | None = None) -> Path:
    """Write the report of a collection to the file `out`.

    The same runs give the same bytes.

    Args:
        collection: Runs to report.
        out: Path of the HTML file.
        comparison: Comparison of the collection, if it has been computed already.

    Returns:
        The path of the file.

    Raises:
        ValueError: If no run is finished.
    """
    compared = compare(collection) if comparison is None else comparison
    found = report_sections(compared)
    bare = _page(compared, found, [ReportImages() for _ in found])
    exhibits = make_report_images(found, LIMIT_BYTES - SPARE_BYTES - len(bare.encode()))
    page = _page(compared, found, exhibits)
    with atomic_replace(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return out


def _page(
    comparison: Comparison, found: Sequence[ReportSection], exhibits: Sequence[ReportImages]
) -> str:
    """Return the HTML of the page."""
    domains = {row.domain for row in comparison.rows}
    return render_page(
        TEMPLATE,
        FILTERS,
        {
            "comparison": comparison,
            "sections": [
                {
                    "number": number,
                    "section": section,
                    "setting": section.setting,
                    "shown": {kind: exhibit.of.get(kind) for kind in KINDS},
                    "left_out": exhibit.left_out,
                    "against": against(comparison, section),
                    "brief": brief(comparison, section),
                    "doubts": abstention_summaries(section),
                }
                for number, (section, exhibit) in enumerate(zip(found, exhibits, strict=True), 1)
            ],
            "others": other_settings(comparison),
            "optional": list(optional_sections(comparison)),
            "rules": rule_tables(comparison),
            "references": list(reference_sections(domains, comparison.ceiling)),
            "limits": limits(comparison, found),
            "costs": [row for row in comparison.rows if row.setting.is_headline],
            "versions": versions(comparison),
            "relations": RELATIONS,
            "consequences": CONSEQUENCES,
        },
    )
