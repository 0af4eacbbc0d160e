"""The differential count of a slide in words and rows; the numbers are `evaluation.differential`'s.

A cell that a person has named counts as that; one that is none of the eleven is left out of the
count, and listed.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hf_wbc.app.desk import Desk, Slide
from hf_wbc.app.words import BLASTS, OUTSIDE, cell_name
from hf_wbc.evaluation.differential import UNKNOWN, Differential, differential
from hf_wbc.plots.style import lineage_order
from hf_wbc.taxonomy import CLASSES, NAMES, class_id

LEFT = tuple(
    class_id(name) for name in ("promyelocyte", "myelocyte", "metamyelocyte", "neutrophil_banded")
)
NORMAL_BANDS = 0.08
"""Share of bands and younger neutrophils up to which a smear of an adult is common."""
MANY_REJECTED = 0.1


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
        flags=tuple(_flags(found, num_rejected)),
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


def _flags(found: Differential, num_rejected: int) -> list[str]:
    """What a reader has to see first."""
    flags = []
    if found.doubtful:
        flags.append(
            "These cells differ from the training laboratories' in more than their proportions "
            "(stain, camera, scale, kinds of cells): trust neither the estimates nor the intervals."
        )
    blasts, left = found.together(BLASTS), found.together(LEFT)
    if blasts.low > 0 or blasts.counted:
        flags.append(
            f"Blasts? {blasts.counted} named, estimated {blasts.fraction:.3f} "
            f"({blasts.low:.3f} to {blasts.high:.3f}). Look at each of them yourself."
        )
    if left.low > NORMAL_BANDS:
        flags.append(
            f"Left shift? Bands and younger neutrophils are {left.fraction:.3f} "
            f"({left.low:.3f} to {left.high:.3f}); up to about {NORMAL_BANDS:g} is common."
        )
    if num_rejected > MANY_REJECTED * found.num_cells:
        flags.append(
            f"{num_rejected} of {found.num_cells} cells are unlike those that the model knows: "
            "the scale may be wrong, or the images may show no white cells."
        )
    return flags


def _notes(found: Differential) -> list[str]:
    notes = []
    if not found.corrected:
        notes.append(
            "This model was saved without held-out cells: the fractions are plain counts, and the "
            "intervals know chance alone, not the classifier's mistakes."
        )
    if missing := [cell_name(c) for c, s in enumerate(found.shares) if not s.identifiable]:
        notes.append(f"The model was never taught {', '.join(missing)}: these are not counted.")
    notes.append(f"{found.num_cells} cells; an interval tells what another slide might have shown.")
    return notes
