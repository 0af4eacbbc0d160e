"""Flags of a differential count: blasts, left shift, immature granulocytes, and doubtful counts.

A flag is raised if the whole interval is beyond its limit, which for blasts is a single cell. If
only the estimate is, the flag is "possible" and somebody should look. The limits are for the blood
of adults, and conventional rather than exact: more than 10 % of bands and younger neutrophils is a
left shift (Bone et al. 1992, a criterion of SIRS).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike

from hf_wbc.taxonomy import CLASSES, class_id

if TYPE_CHECKING:
    from hf_wbc.evaluation.differential import Differential, Share

BANDED = class_id("neutrophil_banded")
MYELOBLAST = class_id("myeloblast")
LEFT_SHIFT = 0.1
"""Fraction of bands and younger neutrophils above which there is a left shift."""
IMMATURE = 0.02
"""Fraction of promyelocytes to metamyelocytes above which blood is not normal."""
BLAST_PROBABILITY = 0.2
"""Predicted probability of a blast from which a single cell should be reviewed."""
MIN_CELLS = 100
"""Number of cells below which a count is only preliminary."""
Level = Literal["yes", "possible", "unseen", "doubt"]


@dataclass(frozen=True)
class Flag:
    """Finding that a hematologist should know about."""

    name: str
    level: Level
    """`yes` or `possible`; `unseen` if the model cannot detect it; `doubt` if it is about the count
    itself."""
    text: str
    cells: tuple[int, ...] = ()
    """Rows of the cells to review first."""


def smear_flags(
    count: "Differential",
    probabilities: ArrayLike,
    blasts_from: float | None = None,
    left_out: ArrayLike = (),
) -> tuple[Flag, ...]:
    """Return the flags of a count: blasts, left shift, immature cells, rejections, then doubts.

    Args:
        count: Differential count.
        probabilities: Predicted probabilities of the cells (N, 11).
        blasts_from: Review threshold of the model for myeloblasts; BLAST_PROBABILITY by default.
        left_out: Rows of the cells that are rejected and not named by a person.
    """
    chances = np.asarray(probabilities, np.float64)
    neutrophils = [i for i, cell in enumerate(CLASSES) if cell.maturation]
    left = [i for i in neutrophils if (CLASSES[i].maturation or 0) <= 5 and i != MYELOBLAST]
    found = [_blasts(count, chances, blasts_from)]
    young = [i for i in left if i != BANDED]
    found.append(
        _share("left_shift", "Left shift", count.together(left), LEFT_SHIFT, left, chances)
    )
    found.append(
        _share("immature", "Immature granulocytes", count.together(young), IMMATURE, young, chances)
    )
    return tuple(
        flag for flag in (*found, _rejected(count, left_out), *_doubts(count)) if flag is not None
    )


def _blasts(count: "Differential", chances: np.ndarray, blasts_from: float | None) -> Flag | None:
    share = count.shares[MYELOBLAST]
    if not share.identifiable and share.fraction > 0:
        return Flag("blasts", "yes", f"Blasts: {share.counted} cells, named by a person.")
    if not share.identifiable:
        return Flag(
            "blasts",
            "unseen",
            "Blasts cannot be seen: the model was never taught myeloblasts. Look yourself.",
        )
    limit = BLAST_PROBABILITY if blasts_from is None else blasts_from
    cells = _rows(chances[:, MYELOBLAST], limit)
    if share.low * count.num_cells >= 1:
        return Flag("blasts", "yes", f"Blasts: {_said(share)} of the cells.", cells)
    if cells or share.fraction * count.num_cells >= 1:
        text = f"Possible blasts: {_said(share)} of the cells; look at those named."
        return Flag("blasts", "possible", text, cells)
    return None


def _share(
    name: str, words: str, share: "Share", limit: float, classes: Sequence[int], chances: np.ndarray
) -> Flag | None:
    cells = _rows(chances[:, list(classes)].sum(1), 0.5)
    if share.low > limit:
        return Flag(name, "yes", f"{words}: {_said(share)} of the cells.", cells)
    if share.fraction > limit:
        return Flag(
            name, "possible", f"Possible {words.lower()}: {_said(share)} of the cells.", cells
        )
    return None


def _rejected(count: "Differential", left_out: ArrayLike) -> Flag | None:
    if not count.num_rejected:
        return None
    rows = tuple(np.asarray(left_out, np.int64).tolist())
    text = (
        f"{count.num_rejected} cells are unlike those that the model knows and left out of the "
        "count until they are named"
    )
    if not count.corrected:
        return Flag("rejected", "possible", f"{text}.", rows)
    expected = f"{count.expected_rejected:.0f} would be expected of {count.num_cells} white cells"
    if count.num_rejected <= count.rejected_limit:
        return Flag("rejected", "possible", f"{text}; about {expected}.", rows)
    text = f"{text}, where {expected}: smudge cells, platelets, a wrong scale, or another stain."
    return Flag("rejected", "doubt", text, rows)


def _doubts(count: "Differential") -> list[Flag]:
    found = []
    if count.doubtful:
        found.append(
            Flag(
                "label_shift_ks",
                "doubt",
                "These cells differ from the model's training cells in more than their shares: "
                "neither the count nor its intervals can be trusted.",
            )
        )
    if not count.corrected:
        found.append(
            Flag(
                "uncorrected",
                "doubt",
                "The model brings no record of what it confuses: cells are counted as it names "
                "them, and the intervals know of chance alone.",
            )
        )
    if count.num_cells < MIN_CELLS:
        found.append(
            Flag(
                "few",
                "doubt",
                f"Only {count.num_cells} cells: count {MIN_CELLS} or more, better 200.",
            )
        )
    return found


def _said(share: "Share") -> str:
    low, high = 100 * share.low, 100 * share.high
    return f"{100 * share.fraction:.1f} % [{low:.1f} to {high:.1f}]"


def _rows(chances: np.ndarray, limit: float) -> tuple[int, ...]:
    order = np.argsort(-chances, kind="stable")
    return tuple(int(row) for row in order if chances[row] >= limit)
