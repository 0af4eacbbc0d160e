"""The differential count of a slide as rows and sentences; `evaluation.differential` computes it.

A cell that a person has corrected counts as the corrected class. Cells that a person marks as
none of the eleven are left out, and so are cells that the model rejects, unless a person names
them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_wbc.app.page_text import OUTSIDE, OUTSIDE_NAME, cell_name
from hf_wbc.app.service import Service
from hf_wbc.app.slide_state import Slide, SlideCell
from hf_wbc.comparison.document import count, join_names
from hf_wbc.evaluation.smear_flags import smear_flags
from hf_wbc.plots.class_names import lineage_order
from hf_wbc.taxonomy import CLASSES, NAMES

if TYPE_CHECKING:
    from hf_wbc.evaluation.differential import Differential

MOST_NAMED = 12
"""Number of cells that a flag lists; the table shows all of them."""


@dataclass(frozen=True)
class CountRow:
    """One class of the count."""

    name: str
    label: int
    lineage: str
    num_named: int
    fraction: float | None
    """Estimated fraction of the white cells; None for a class without training cells."""
    low: float | None
    high: float | None


@dataclass(frozen=True)
class CellCount:
    """A differential count as the page shows it."""

    rows: tuple[CountRow, ...]
    flags: tuple[str, ...]
    notes: tuple[str, ...]
    num_cells: int
    """Cells in the count."""
    num_named: int
    """Cells in the count that a person has named."""
    num_outside: int
    """Left out: a person marked them as none of the eleven."""
    num_rejected: int
    """Left out: the model rejected them and no person has named them."""
    label_shift_ks: float | None
    label_shift_ks_limit: float | None

    @property
    def most(self) -> float:
        """The largest interval bound, which scales the bars."""
        bounds = [row.high or row.fraction or 0.0 for row in self.rows if row.fraction is not None]
        return max([*bounds, 0.05])

    @property
    def caption(self) -> str:
        """Explain the table's columns."""
        return (
            "Named: the number of cells that you or the model gave this class. Estimated: the "
            "fraction of white cells after correcting for the model's known confusions. All "
            "intervals hold simultaneously."
        )

    @property
    def who_counts(self) -> str:
        """State which cells are in the count and which are not."""
        said = f"In the count: {count(self.num_cells, 'cell')}"
        if self.num_named:
            said += f", {self.num_named:,} of them as you named them"
        out = []
        if self.num_rejected:
            out.append(f"{self.num_rejected:,} unlike the cells that the model knows (until named)")
        if self.num_outside:
            out.append(f"{self.num_outside:,} that you called {OUTSIDE_NAME}")
        return f"{said}. Left out: {join_names(out)}." if out else f"{said}; none is left out."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "classes": {
                NAMES[row.label]: {
                    "named": row.num_named,
                    "fraction": row.fraction,
                    "low": row.low,
                    "high": row.high,
                }
                for row in self.rows
            },
            **{key: value for key, value in asdict(self).items() if key != "rows"},
        }


def is_counted(case: SlideCell) -> bool:
    """Return whether a cell is in the count."""
    return not case.prediction.rejected if case.corrected is None else case.corrected != OUTSIDE


def count_cells(service: Service, slide: Slide) -> CellCount | None:
    """Count a slide; None if no cell is left to count."""
    from hf_wbc.evaluation.differential import differential
    from hf_wbc.evaluation.slide import UNKNOWN

    cases = [case for case in slide.cases if case.corrected != OUTSIDE]
    if not any(map(is_counted, cases)):
        return None
    found = differential(
        np.stack([case.prediction.probabilities for case in cases]),
        service.predictor.held_out,
        corrections=[UNKNOWN if case.corrected is None else case.corrected for case in cases],
        rejected=[case.prediction.rejected for case in cases],
    )
    return CellCount(
        rows=tuple(_row(found, label) for label in lineage_order(NAMES)),
        flags=tuple(_flags(service, cases, found)),
        notes=tuple(_notes(found)),
        num_cells=found.num_cells,
        num_named=sum(case.corrected is not None for case in cases),
        num_outside=len(slide.cases) - len(cases),
        num_rejected=found.num_rejected,
        label_shift_ks=found.label_shift_ks,
        label_shift_ks_limit=found.label_shift_ks_limit,
    )


def _row(found: "Differential", label: int) -> CountRow:
    share = found.shares[label]
    known = share.identifiable
    return CountRow(
        cell_name(label),
        label,
        CLASSES[label].lineage,
        share.counted,
        share.fraction if known else None,
        share.low if known else None,
        share.high if known else None,
    )


def _flags(service: Service, cases: Sequence[SlideCell], found: "Differential") -> list[str]:
    """The flags of the smear, with the numbers of the cells to review."""
    chances = np.stack([case.prediction.probabilities for case in cases])
    for row, case in enumerate(cases):
        if case.corrected is not None:
            chances[row] = np.arange(len(NAMES)) == case.corrected
    left_out = [row for row, case in enumerate(cases) if not is_counted(case)]
    flags = []
    for flag in smear_flags(found, chances, service.blasts_from, left_out):
        numbers = [str(cases[row].number) for row in flag.cells[:MOST_NAMED]]
        more = " and others" if len(flag.cells) > MOST_NAMED else ""
        look = f" Review first: no. {', '.join(numbers)}{more}." if numbers else ""
        flags.append(f"{flag.text}{look}")
    return flags


def _notes(found: "Differential") -> list[str]:
    notes = []
    if missing := [cell_name(c) for c, s in enumerate(found.shares) if not s.identifiable]:
        notes.append(
            f"The model had no training cells of {join_names(missing)}: these are not counted."
        )
    notes.append("The interval covers what another slide of the same blood might show.")
    return notes
