"""A report as a PDF: one A4 page, and an appendix with the cells by class.

The page is drawn with ReportLab, which the extra `app` installs. A row of cells is never split.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unicodedata import bidirectional
from xml.sax.saxutils import escape

from hf_wbc.app.sample_report import LIMITS, RESEARCH_USE, ReportRow, SampleReport

MARGIN_MM = 14
PER_ROW = 7
"""Cells in a row of the appendix."""
CELL_MM = 24
FONT, BOLD = "DejaVuSans", "DejaVuSans-Bold"


def pdf_bytes(report: SampleReport) -> bytes:
    """Draw the report.

    Raises:
        ValueError: If ReportLab is not installed, or a name has letters that the font lacks.
    """
    try:
        from reportlab.lib.pagesizes import A4
        from reportlab.lib.units import mm
        from reportlab.platypus import KeepInFrame, PageBreak, SimpleDocTemplate
    except ImportError as error:
        raise ValueError(
            "a PDF needs the package reportlab: pip install 'hf_wbc[app]'; the report to print "
            "has the same content"
        ) from error
    _load_fonts()
    for name in (report.facts.sample, report.facts.reviewer):
        _require_legible(name)
    data = io.BytesIO()
    margin = MARGIN_MM * mm
    document = SimpleDocTemplate(
        data, pagesize=A4, leftMargin=margin, rightMargin=margin, topMargin=margin,
        bottomMargin=margin + 4 * mm, title=f"Differential count: {report.facts.sample}",
        author=report.facts.reviewer, creator="hf_wbc",
    )  # fmt: skip
    room = (document.width - 12, document.height - 12)  # the frame's padding is 6 pt
    first = KeepInFrame(*room, _first_page(report, room[0]), mode="shrink")

    def number(canvas: Any, page: Any) -> None:
        canvas.setFont(FONT, 7)
        canvas.drawString(margin, 9 * mm, f"{report.facts.sample}  ·  {RESEARCH_USE}")
        canvas.drawRightString(A4[0] - margin, 9 * mm, f"page {page.page}")

    appendix = [PageBreak(), *_appendix(report, room[0])] if report.groups else []
    document.build([first, *appendix], onFirstPage=number, onLaterPages=number)
    return data.getvalue()


def _load_fonts() -> None:
    """Register the fonts that Matplotlib brings; the built-in ones have no micro sign in all."""
    import matplotlib
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in (FONT, BOLD):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, folder / f"{name}.ttf"))
    pdfmetrics.registerFontFamily(FONT, normal=FONT, bold=BOLD, italic=FONT, boldItalic=BOLD)


def _require_legible(name: str) -> None:
    """Raise ValueError for letters that would become boxes, or that run from right to left."""
    from reportlab.pdfbase import pdfmetrics

    known = pdfmetrics.getFont(FONT).face.charToGlyph
    lost = [each for each in name if ord(each) not in known or bidirectional(each) in ("R", "AL")]
    if lost:
        raise ValueError(
            f"a PDF cannot show {''.join(dict.fromkeys(lost))} of the name {name}; take the report "
            "to print, or write the name in other letters"
        )


def _style(size: float, **options: Any) -> Any:
    from reportlab.lib.styles import ParagraphStyle

    return ParagraphStyle(
        f"size {size} {options}", fontName=FONT, fontSize=size, leading=1.32 * size, **options
    )


def _paragraph(markup: str, size: float = 8.5, **options: Any) -> Any:
    from reportlab.platypus import Paragraph

    return Paragraph(markup, _style(size, **options))


def _heading(text: str) -> Any:
    return _paragraph(f"<b>{escape(text)}</b>", 10.5, spaceBefore=8, spaceAfter=3, keepWithNext=1)


def _first_page(report: SampleReport, width: float) -> list[Any]:
    from reportlab.platypus import Spacer

    facts = [
        ("Sample", report.facts.sample),
        ("Status", report.status),
        ("Reviewed", report.reviewed),
        ("Cells", "; ".join([f"{report.num_cells} read", *report.not_read])),
        ("Scale", report.scale),
        ("Model", report.model),
        ("Fit to the laboratory", report.fit),
        ("Made", f"{report.made:%Y-%m-%d %H:%M}"),
    ]
    parts = [
        _paragraph("<b>Differential count of white blood cells</b>", 15, spaceAfter=3),
        _paragraph(f"<b>{escape(RESEARCH_USE)}</b>", 8.5, textColor="#8a2f00", spaceAfter=5),
        _table(
            [[_paragraph(f"<b>{escape(k)}</b>"), _paragraph(escape(v))] for k, v in facts],
            [0.22 * width, 0.78 * width],
        ),
        _heading("Differential"),
    ]
    if report.count is None:
        parts.append(_paragraph("No white cell is left to count."))
    else:
        count = report.count
        parts += [_differential(report.rows, width), Spacer(1, 4)]
        factor = count.white_count_factor
        nrbc = f"<b>Nucleated red cells (nRBC): {escape(count.nrbc_text)}</b>"
        if factor is not None:
            nrbc += f"; corrected white count = analyzer's count x {factor:.3f}"
        parts += [_paragraph(nrbc), _paragraph(escape(count.who_counts), spaceBefore=2)]
        parts.append(_heading("Flags"))
        parts += [_paragraph(f"• {escape(each)}", leftIndent=8) for each in count.flags] or [
            _paragraph("None.")
        ]
    parts.append(_heading("Limits"))
    notes = () if report.count is None else report.count.notes
    source = (f"Reference ranges: {report.range_source}.",) if report.range_source else ()
    parts += [
        _paragraph(f"• {escape(each)}", 7.5, leftIndent=8) for each in (*notes, *LIMITS, *source)
    ]
    parts += [Spacer(1, 26), _signature(report, width)]
    return parts


def _differential(rows: Sequence[ReportRow], width: float) -> Any:
    titles = ("white cells", "cells", "%", "reference, %", "", "estimate, % (95 % interval)")
    lines: list[list[Any]] = [[_paragraph(f"<b>{title}</b>", 8) for title in titles]]
    for each in rows:
        estimate = each.row.estimate
        estimated = "–"
        if estimate is not None:
            low, high = 100 * estimate.low, 100 * estimate.high
            estimated = f"{100 * estimate.fraction:.1f} ({low:.1f}–{high:.1f})"
        usual = "–" if each.range is None else f"{each.range.low:g}–{each.range.high:g}"
        texts = (
            escape(each.row.name), str(each.row.counted), f"<b>{each.percent:.1f}</b>", usual,
            f"<b>{each.mark}</b>", estimated,
        )  # fmt: skip
        lines.append([_paragraph(text, 8.5) for text in texts])
    return _table(lines, [share * width for share in (0.28, 0.09, 0.1, 0.16, 0.1, 0.27)])


def _signature(report: SampleReport, width: float) -> Any:
    signed = report.facts.signed
    left = report.facts.reviewer if signed else ""
    right = f"{signed:%Y-%m-%d %H:%M}" if signed else ""
    table = _table(
        [
            [_paragraph(escape(left)), "", _paragraph(right)],
            [_paragraph("Reviewer"), "", _paragraph("Date")],
        ],
        [0.46 * width, 0.08 * width, 0.46 * width],
        [("LINEABOVE", (0, 1), (0, 1), 0.7, "black"), ("LINEABOVE", (2, 1), (2, 1), 0.7, "black")],
    )
    return table


def _table(lines: list[list[Any]], widths: list[float], style: Any = None) -> Any:
    from reportlab.platypus import Table, TableStyle

    grid = [("LINEBELOW", (0, 0), (-1, -1), 0.3, "#c5ccd3")] if style is None else style
    always = [
        ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ("TOPPADDING", (0, 0), (-1, -1), 1.6),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 1.6),
        ("LEFTPADDING", (0, 0), (-1, -1), 2),
    ]
    return Table(lines, widths, style=TableStyle([*grid, *always]), hAlign="LEFT")


def _appendix(report: SampleReport, width: float) -> list[Any]:
    parts: list[Any] = [_paragraph("<b>Appendix: the cells by class</b>", 13, spaceAfter=4)]
    for name, cells in report.groups:
        parts.append(_heading(f"{name} ({len(cells)})"))  # stays with the table after it: a row
        for start in range(0, len(cells), PER_ROW):
            row: list[Any] = [_cell(cell) for cell in cells[start : start + PER_ROW]]
            row += [""] * (PER_ROW - len(row))
            parts.append(_table([row], [width / PER_ROW] * PER_ROW, []))
    return parts


def _cell(cell: dict[str, Any]) -> list[Any]:
    from reportlab.lib.units import mm
    from reportlab.platypus import Image

    data = io.BytesIO(base64.b64decode(cell["uri"].partition(",")[2]))
    given = cell["corrected"]
    how = "not reviewed" if given is None else "confirmed" if given == cell["label"] else "changed"
    return [
        Image(data, CELL_MM * mm, CELL_MM * mm, kind="proportional"),
        _paragraph(f"<b>{cell['number']}</b> {how}", 6.5, alignment=1),
    ]
