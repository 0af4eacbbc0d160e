"""The differential count of a slide as rows and sentences; `evaluation.differential` computes it.

The plain count comes first: what a person has named is a fact. The estimate, which corrects for the
model's confusions, stands beside it where it can be trusted. Cells that a person marks as none of
the eleven classes are left out, and so are cells that the model rejects, unless a person names
them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_wbc.app.page_text import cell_name, is_outside, outside_key
from hf_wbc.app.service import Service
from hf_wbc.app.slide_state import Slide, SlideCell
from hf_wbc.comparison.document import join_names
from hf_wbc.evaluation.smear_flags import nrbc_words, smear_flags
from hf_wbc.taxonomy import CLASSES, CLINICAL_ORDER, ERYTHROBLAST, NAMES
from hf_wbc.text import plural

if TYPE_CHECKING:
    from hf_wbc.evaluation.differential import Differential

MOST_NAMED = 12
"""Number of cells that a flag lists; the table shows all of them."""


@dataclass(frozen=True)
class Estimate:
    """Estimated share of a class with its interval, per white cell."""

    fraction: float
    low: float
    high: float


@dataclass(frozen=True)
class CountRow:
    """One class of the count."""

    name: str
    label: int
    lineage: str
    counted: int
    """Cells that a person or the model gave this class."""
    named: int
    """How many of them a person named."""
    fraction: float
    """Counted cells per counted white cell: for white cells, their fraction."""
    estimate: Estimate | None
    """None where no estimate can be trusted."""


@dataclass(frozen=True)
class CellCount:
    """A differential count as the page shows it."""

    rows: tuple[CountRow, ...]
    """White cells, in clinical order."""
    nrbc: CountRow
    """Nucleated red cells, which are counted per white cell."""
    nrbc_text: str
    white_count_factor: float | None
    """Factor that corrects an analyzer's white cell count; None if there is nothing to correct."""
    flags: tuple[str, ...]
    notes: tuple[str, ...]
    num_cells: int
    """White cells in the count."""
    num_named: int
    """Cells that a person has named, without those that are none of the eleven."""
    outside: dict[str, int]
    """Left out: number of cells by what a person called them, such as `smudge_cell`."""
    num_rejected: int
    """Left out: the model rejected them and no person has named them."""
    label_shift_ks: float | None
    label_shift_ks_limit: float | None
    shows_estimate: bool

    @property
    def most(self) -> float:
        """The largest share or interval bound, which scales the bars."""
        ends = [row.estimate.high if row.estimate else row.fraction for row in self.rows]
        return max([*ends, *(row.fraction for row in self.rows), 0.05])

    @property
    def caption(self) -> str:
        """Explain the table's columns."""
        summary = (
            "Count: the cells that a person or, where nobody has named them, the model gave this "
            "class, in percent of white cells."
        )
        if not self.shows_estimate:
            return summary
        return (
            f"{summary} Estimate: the same after correcting the unreviewed cells for the model's "
            "known confusions, with 95 % intervals that hold simultaneously."
        )

    @property
    def who_counts(self) -> str:
        """State which cells are in the count and which are not."""
        summary = f"In the count: {plural(self.num_cells, 'white cell')}"
        if self.nrbc.counted:
            summary += f" and, apart, {plural(self.nrbc.counted, 'nucleated red cell')}"
        if self.num_named:
            summary += f"; {self.num_named:,} of them named by a person"
        out = []
        if self.num_rejected:
            out.append(f"{self.num_rejected:,} unlike the cells that the model knows (until named)")
        out += [f"{num:,} named {key.replace('_', ' ')}" for key, num in self.outside.items()]
        return (
            f"{summary}. Left out: {join_names(out)}." if out else f"{summary}. None is left out."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; shares are in [0, 1]."""
        rest = ("rows", "nrbc", "nrbc_text")
        return {
            "classes": {NAMES[row.label]: _json(row) for row in self.rows},
            "nrbc_per_100_wbc": {
                "counted": self.nrbc.counted,
                "named": self.nrbc.named,
                "per_100": 100 * self.nrbc.fraction,
            },
            **{key: value for key, value in asdict(self).items() if key not in rest},
        }


def is_counted(case: SlideCell) -> bool:
    """Return whether a cell is in the count."""
    if case.corrected is None:
        return not case.prediction.rejected
    return not is_outside(case.corrected)


def count_cells(service: Service, slide: Slide) -> CellCount | None:
    """Count a slide; None if no white cell is left to count."""
    from hf_wbc.evaluation.differential import differential
    from hf_wbc.evaluation.slide import UNKNOWN

    cases = [c for c in slide.cases if c.corrected is None or not is_outside(c.corrected)]
    if not any(is_counted(case) and case.label != ERYTHROBLAST for case in cases):
        return None
    found = differential(
        np.stack([case.prediction.probabilities for case in cases]),
        service.predictor.held_out,
        corrections=[UNKNOWN if case.corrected is None else case.corrected for case in cases],
        rejected=[case.prediction.rejected for case in cases],
    )
    rows = [_row(found, label) for label in CLINICAL_ORDER]
    outside = Counter(
        outside_key(case.corrected)
        for case in slide.cases
        if case.corrected is not None and is_outside(case.corrected)
    )
    return CellCount(
        rows=tuple(row for row in rows if CLASSES[row.label].is_white),
        nrbc=next(row for row in rows if row.label == ERYTHROBLAST),
        nrbc_text=nrbc_words(found),
        white_count_factor=found.white_count_factor,
        flags=tuple(_flags(service, cases, found)),
        notes=tuple(_notes(found)),
        num_cells=found.num_cells,
        num_named=sum(case.corrected is not None for case in cases),
        outside=dict(outside),
        num_rejected=found.num_rejected,
        label_shift_ks=found.label_shift_ks,
        label_shift_ks_limit=found.label_shift_ks_limit,
        shows_estimate=found.shows_estimate,
    )


def _json(row: CountRow) -> dict[str, Any]:
    return {
        "counted": row.counted,
        "named": row.named,
        "fraction": row.fraction,
        "estimate": None if row.estimate is None else asdict(row.estimate),
    }


def _row(found: "Differential", label: int) -> CountRow:
    share = found.shares[label]
    shown = found.shows_estimate and share.identifiable
    return CountRow(
        name=cell_name(label),
        label=label,
        lineage=CLASSES[label].lineage,
        counted=share.counted,
        named=share.named,
        fraction=found.counted_share(label),
        estimate=Estimate(share.fraction, share.low, share.high) if shown else None,
    )


def _flags(service: Service, cases: Sequence[SlideCell], found: "Differential") -> list[str]:
    """The flags of the smear, with the numbers of the cells to review."""
    chances = np.stack([case.prediction.probabilities for case in cases])
    named = [case.corrected is not None for case in cases]
    left_out = [row for row, case in enumerate(cases) if not is_counted(case)]
    flags = []
    for flag in smear_flags(
        found, chances, service.blasts_from, left_out, named, service.smear_limits
    ):
        numbers = [str(cases[row].number) for row in flag.cells[:MOST_NAMED]]
        more = " and others" if len(flag.cells) > MOST_NAMED else ""
        look = f" Review first: no. {', '.join(numbers)}{more}." if numbers else ""
        flags.append(f"{flag.text}{look}")
    return flags


def _notes(found: "Differential") -> list[str]:
    notes = [*_contradictions(found)] if found.shows_estimate else []
    if missing := [
        cell_name(c) for c, s in enumerate(found.shares) if not s.identifiable and not s.counted
    ]:
        notes.append(
            f"The model had no training cells of {join_names(missing)}: these are not counted."
        )
    if found.shows_estimate:
        notes.append("The interval covers what another slide of the same blood might show.")
    return notes


def _contradictions(found: "Differential") -> list[str]:
    """Explain every estimate whose interval does not contain the plain count."""
    notes = []
    for label in CLINICAL_ORDER:
        share, plain = found.shares[label], found.counted_share(label)
        if not share.identifiable or share.low <= plain <= share.high:
            continue
        name, other = cell_name(label), found.mistaken_for[label]
        numbers = (
            f"{100 * plain:.1f} by count and {100 * share.fraction:.1f} by estimate "
            f"({100 * share.low:.1f} to {100 * share.high:.1f}), per 100 white cells"
        )
        if plain < share.low:
            why = "the model misses some cells of this class"
        elif other is None:
            why = "the model gives this class to other cells as well"
        else:
            why = f"the model calls some cells {name} that are {cell_name(other)}"
        notes.append(
            f"{name[0].upper()}{name[1:]}: {numbers}, because {why}. Review these cells; what you "
            "name counts exactly."
        )
    return notes
