"""The differential count of a slide in words and rows; the numbers are `evaluation.differential`'s.

A cell that a person has named counts as that. One that a person calls none of the eleven is left
out, and so is one that the model rejects, until somebody has named it.
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
from hf_wbc.plots.style import lineage_order
from hf_wbc.taxonomy import CLASSES, NAMES

if TYPE_CHECKING:
    from hf_wbc.evaluation.differential import Differential

MOST_NAMED = 12
"""Cells that a flag names; all of them stand in the table."""


@dataclass(frozen=True)
class CountRow:
    """One class of the count."""

    name: str
    label: int
    lineage: str
    num_named: int
    fraction: float | None
    """None for a class that the model was never taught."""
    low: float | None
    high: float | None


@dataclass(frozen=True)
class CellCount:
    """A differential count as it is shown."""

    rows: tuple[CountRow, ...]
    flags: tuple[str, ...]
    notes: tuple[str, ...]
    num_cells: int
    """In the count."""
    num_named: int
    """Of these, as a person has named them."""
    num_outside: int
    """Left out, as a person called them none of the eleven."""
    num_rejected: int
    """Left out, as unlike the cells that the model knows, and named by nobody."""
    misfit: float | None
    misfit_limit: float | None

    @property
    def most(self) -> float:
        """The largest bound, to which bars are drawn."""
        bounds = [row.high or row.fraction or 0.0 for row in self.rows if row.fraction is not None]
        return max([*bounds, 0.05])

    @property
    def caption(self) -> str:
        """What the table's columns are."""
        return (
            "Named: as many cells were given this class, by you or by the model. Estimated: the "
            "share of the white cells that is likely when the classifier's known confusions are "
            "allowed for; all intervals hold at once."
        )

    @property
    def who_counts(self) -> str:
        """Which cells are in the count, and which are not."""
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
    """Whether a cell is in the count."""
    return not case.answer.rejected if case.corrected is None else case.corrected != OUTSIDE


def count_cells(desk: Service, slide: Slide) -> CellCount | None:
    """The count of a slide; None when no cell is left to count."""
    from hf_wbc.evaluation.differential import differential
    from hf_wbc.evaluation.slide import UNKNOWN

    cases = [case for case in slide.cases if case.corrected != OUTSIDE]
    if not any(map(is_counted, cases)):
        return None
    found = differential(
        np.stack([case.answer.probabilities for case in cases]),
        desk.predictor.held_out,
        corrections=[UNKNOWN if case.corrected is None else case.corrected for case in cases],
        rejected=[case.answer.rejected for case in cases],
    )
    return CellCount(
        rows=tuple(_row(found, label) for label in lineage_order(NAMES)),
        flags=tuple(_flags(desk, cases, found)),
        notes=tuple(_notes(found)),
        num_cells=found.num_cells,
        num_named=sum(case.corrected is not None for case in cases),
        num_outside=len(slide.cases) - len(cases),
        num_rejected=found.num_rejected,
        misfit=found.misfit,
        misfit_limit=found.misfit_limit,
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


def _flags(desk: Service, cases: Sequence[SlideCell], found: "Differential") -> list[str]:
    """What a reader has to see first, with the numbers of the cells to look at."""
    chances = np.stack([case.answer.probabilities for case in cases])
    for row, case in enumerate(cases):
        if case.corrected is not None:
            chances[row] = np.arange(len(NAMES)) == case.corrected
    left_out = [row for row, case in enumerate(cases) if not is_counted(case)]
    flags = []
    for flag in smear_flags(found, chances, desk.blasts_from, left_out):
        numbers = [str(cases[row].number) for row in flag.cells[:MOST_NAMED]]
        more = " and others" if len(flag.cells) > MOST_NAMED else ""
        look = f" Look first at no. {', '.join(numbers)}{more}." if numbers else ""
        flags.append(f"{flag.text}{look}")
    return flags


def _notes(found: "Differential") -> list[str]:
    notes = []
    if missing := [cell_name(c) for c, s in enumerate(found.shares) if not s.identifiable]:
        notes.append(f"The model was never taught {join_names(missing)}: these are not counted.")
    notes.append("An interval tells what another slide of the same blood might have shown.")
    return notes
