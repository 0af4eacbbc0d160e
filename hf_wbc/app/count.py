"""The differential count of a slide in words and rows; the numbers are `evaluation.differential`'s.

A cell that a person has named counts as that; one that is none of the eleven is left out of the
count, and listed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hf_wbc.app.desk import Case, Desk, Slide
from hf_wbc.app.words import OUTSIDE, cell_name
from hf_wbc.evaluation.differential import UNKNOWN, Differential, differential
from hf_wbc.evaluation.smear_flags import smear_flags
from hf_wbc.plots.style import lineage_order
from hf_wbc.taxonomy import CLASSES, NAMES

MANY_REJECTED = 0.1
MOST_NAMED = 12
"""Cells that a flag names; all of them stand in the table."""


@dataclass(frozen=True)
class Row:
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
class Count:
    """A differential count as it is shown."""

    rows: tuple[Row, ...]
    flags: tuple[str, ...]
    notes: tuple[str, ...]
    num_cells: int
    """In the count."""
    num_outside: int
    """Left out, as a person called them none of the eleven."""
    num_rejected: int
    """In the count, but unlike the cells that the model knows."""
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
            "Named: as many cells were given this class. Estimated: the share that is likely when "
            "the classifier's known confusions are allowed for; all intervals hold at once."
        )

    @property
    def total_words(self) -> str:
        """The last row's name."""
        return f"cells ({self.num_outside} left out)" if self.num_outside else "cells"

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


def count_of(desk: Desk, slide: Slide) -> Count | None:
    """The count of a slide; None when no cell is left to count."""
    cases = [case for case in slide.cases if case.corrected != OUTSIDE]
    if not cases:
        return None
    found = differential(
        np.stack([case.answer.probabilities for case in cases]),
        desk.predictor.held_out,
        corrections=[UNKNOWN if case.corrected is None else case.corrected for case in cases],
    )
    num_rejected = sum(case.answer.rejected and case.corrected is None for case in cases)
    return Count(
        rows=tuple(_row(found, label) for label in lineage_order(NAMES)),
        flags=tuple(_flags(desk, cases, found, num_rejected)),
        notes=tuple(_notes(found)),
        num_cells=len(cases),
        num_outside=len(slide.cases) - len(cases),
        num_rejected=num_rejected,
        misfit=found.misfit,
        misfit_limit=found.misfit_limit,
    )


def _row(found: Differential, label: int) -> Row:
    share = found.shares[label]
    known = share.identifiable
    return Row(
        cell_name(label),
        label,
        CLASSES[label].lineage,
        share.counted,
        share.fraction if known else None,
        share.low if known else None,
        share.high if known else None,
    )


def _flags(desk: Desk, cases: Sequence[Case], found: Differential, num_rejected: int) -> list[str]:
    """What a reader has to see first, with the numbers of the cells to look at."""
    chances = np.stack([case.answer.probabilities for case in cases])
    for row, case in enumerate(cases):
        if case.corrected is not None:
            chances[row] = np.arange(len(NAMES)) == case.corrected
    flags = []
    for flag in smear_flags(found, chances, desk.blasts_from):
        numbers = [str(cases[row].number) for row in flag.cells[:MOST_NAMED]]
        more = " and others" if len(flag.cells) > MOST_NAMED else ""
        look = f" Look first at no. {', '.join(numbers)}{more}." if numbers else ""
        flags.append(f"{flag.text}{look}")
    if num_rejected > MANY_REJECTED * found.num_cells:
        flags.append(
            f"{num_rejected} of {found.num_cells} cells are unlike those that the model knows: "
            "the scale may be wrong, or the images may show no white cells."
        )
    return flags


def _notes(found: Differential) -> list[str]:
    notes = []
    if missing := [cell_name(c) for c, s in enumerate(found.shares) if not s.identifiable]:
        notes.append(f"The model was never taught {', '.join(missing)}: these are not counted.")
    notes.append(f"{found.num_cells} cells; an interval tells what another slide might have shown.")
    return notes
