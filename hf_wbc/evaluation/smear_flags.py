"""Flags of a differential count: what a hematologist should know before signing it.

A flag is certain (`yes`) if cells that a person has named exceed its limit, because those are
facts, or if the whole interval of the estimate does. If only the plain count or the estimate does,
the flag is `possible`, and a person should look. For blasts, one cell is enough. The limits and
their sources are in `smear_limits.toml`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_wbc.evaluation.smear_limits import SmearLimits, load_limits
from hf_wbc.taxonomy import BLAST_EQUIVALENTS, CLASSES, ERYTHROBLAST, class_id

if TYPE_CHECKING:
    from hf_wbc.evaluation.differential import Differential, Share

BANDED = class_id("neutrophil_banded")
MYELOBLAST = class_id("myeloblast")
PROMYELOCYTE = class_id("promyelocyte")
BLAST_PROBABILITY = 0.2
"""Predicted probability of a blast from which a single cell should be reviewed."""
MIN_CELLS = 100
"""Number of cells below which a count is only preliminary."""
YOUNG = tuple(
    i for i, cell in enumerate(CLASSES) if cell.maturation in (2, 3, 4)
)  # promyelocyte to metamyelocyte
SHARES = (
    ("promyelocytes", "Many promyelocytes", (PROMYELOCYTE,)),
    ("blast_equivalents", "Blasts and promyelocytes together", BLAST_EQUIVALENTS),
    ("left_shift", "Left shift", (*YOUNG, BANDED)),
    ("immature", "Immature granulocytes", YOUNG),
    ("eosinophilia", "Eosinophilia", (class_id("eosinophil"),)),
    ("basophilia", "Basophilia", (class_id("basophil"),)),
    ("monocytosis", "Monocytosis", (class_id("monocyte"),)),
    ("lymphocytosis", "Lymphocytosis", (class_id("lymphocyte_typical"),)),
)
"""Name of the limit, words and classes of each flag on a share of the white cells."""
ADVICE = {
    "promyelocytes": "exclude acute promyelocytic leukemia (APL), an emergency",
    "blast_equivalents": "20 % or more can mean acute leukemia",
    "eosinophilia": "relative, so compare the absolute count",
    "basophilia": "relative, so compare the absolute count",
    "monocytosis": "relative, so compare the absolute count",
    "lymphocytosis": "relative, so compare the absolute count",
}
Level = Literal["yes", "possible", "unseen", "doubt"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Flag:
    """Finding that a hematologist should know about."""

    name: str
    level: Level
    """`yes` or `possible`; `unseen` if the model cannot detect it; `doubt` if it is about the count
    itself."""
    text: str
    cells: tuple[int, ...] = ()
    """Rows of the cells to review first; those that a person has named are not among them."""


def smear_flags(
    count: "Differential",
    probabilities: ArrayLike,
    blasts_from: float | None = None,
    left_out: ArrayLike = (),
    named: ArrayLike | None = None,
    limits: SmearLimits | None = None,
) -> tuple[Flag, ...]:
    """Return the flags of a count: blasts, shares, nucleated red cells, rejections, then doubts.

    Args:
        count: Differential count.
        probabilities: Predicted probabilities of the cells (N, 11).
        blasts_from: Review threshold of the model for myeloblasts; BLAST_PROBABILITY by default.
        left_out: Rows of the cells that are rejected and not named by a person.
        named: Whether a person has named each cell (N,); none by default.
        limits: Limits of the flags; those of `smear_limits.toml` by default.
    """
    chances = np.array(probabilities, np.float64)
    if named is not None:
        chances[np.asarray(named, bool)] = 0.0
    limits = load_limits() if limits is None else limits
    found = [_blasts(count, chances, blasts_from)]
    for name, message, classes in SHARES:
        limit = limits[name].above / 100
        found.append(_share(count, name, message, classes, limit, chances))
    found.append(_red_precursors(count, limits["nrbc"].above / 100, chances))
    return tuple(
        flag for flag in (*found, _rejected(count, left_out), *_doubts(count)) if flag is not None
    )


def _blasts(count: "Differential", chances: Floats, blasts_from: float | None) -> Flag | None:
    share = count.shares[MYELOBLAST]
    limit = BLAST_PROBABILITY if blasts_from is None else blasts_from
    cells = _rows(chances[:, MYELOBLAST], limit)
    if share.named:
        return Flag("blasts", "yes", f"Blasts: {_counted(count, share)}.", cells)
    if not share.identifiable:
        return Flag(
            "blasts",
            "unseen",
            "Blasts cannot be detected: no myeloblasts were in the training data. Check the cells "
            "yourself.",
        )
    if share.low * count.num_cells >= 1:
        return Flag("blasts", "yes", f"Blasts: {_counted(count, share)}.", cells)
    if cells or share.counted or share.fraction * count.num_cells >= 1:
        text = f"Possible blasts: {_counted(count, share)}; look at those named."
        return Flag("blasts", "possible", text, cells)
    return None


def _share(
    count: "Differential",
    name: str,
    message: str,
    classes: Sequence[int],
    limit: float,
    chances: Floats,
) -> Flag | None:
    share = count.together(classes)
    advice = f": {ADVICE[name]}" if name in ADVICE else ""
    cells = _rows(chances[:, list(classes)].sum(1), 0.5)
    if share.named > limit * count.num_cells or share.low > limit:
        return Flag(name, "yes", f"{message}: {_counted(count, share)}{advice}.", cells)
    if share.counted > limit * count.num_cells or share.fraction > limit:
        message = f"Possible {message[0].lower()}{message[1:]}"
        return Flag(name, "possible", f"{message}: {_counted(count, share)}{advice}.", cells)
    return None


def _red_precursors(count: "Differential", limit: float, chances: Floats) -> Flag | None:
    share = count.shares[ERYTHROBLAST]
    if share.counted <= limit * count.num_cells and share.fraction <= limit:
        return None
    is_sure = share.named > limit * count.num_cells or share.low > limit
    text = f"{'N' if is_sure else 'Possible n'}ucleated red cells: {nrbc_words(count)}."
    if (factor := count.white_count_factor) is not None:
        text += (
            " Corrected white count = analyzer's white count x 100 / (100 + "
            f"{count.nrbc_per_100:.1f}) = x {factor:.3f}, unless the analyzer excludes them."
        )
    cells = _rows(chances[:, ERYTHROBLAST], 0.5)
    return Flag("nrbc", "yes" if is_sure else "possible", text, cells)


def nrbc_words(count: "Differential") -> str:
    """Return the nucleated red cells as `6.0 per 100 WBC`, with the estimate if it is shown."""
    share = count.shares[ERYTHROBLAST]
    text = f"{count.nrbc_per_100:.1f} per 100 WBC"
    if count.shows_estimate and share.identifiable:
        low, high = 100 * share.low, 100 * share.high
        text += f" (estimated {100 * share.fraction:.1f}, {low:.1f} to {high:.1f})"
    return text


def _rejected(count: "Differential", left_out: ArrayLike) -> Flag | None:
    if not count.num_rejected:
        return None
    rows = tuple(np.asarray(left_out, np.int64).tolist())
    text = (
        f"{count.num_rejected} cells are unlike the training cells and excluded from the count "
        "until a person identifies them"
    )
    if not count.corrected:
        return Flag("rejected", "possible", f"{text}.", rows)
    expected = f"{count.expected_rejected:.0f} are expected among {count.num_cells} white cells"
    if count.num_rejected <= count.rejected_limit:
        return Flag("rejected", "possible", f"{text}; about {expected}.", rows)
    text = (
        f"{text}, but only {expected}: possible causes are smudge cells, platelets, a wrong scale "
        "or another stain."
    )
    return Flag("rejected", "doubt", text, rows)


def _doubts(count: "Differential") -> list[Flag]:
    found = []
    if count.doubtful:
        found.append(
            Flag(
                "label_shift_ks",
                "doubt",
                "These cells differ from the model's training cells in more than their shares, so "
                "no estimate is shown. The count holds only for the cells that you named.",
            )
        )
    if not count.corrected:
        found.append(
            Flag(
                "uncorrected",
                "doubt",
                "The model brings no record of what it confuses: cells are counted as it names "
                "them, and no estimate is shown.",
            )
        )
    if count.num_cells < MIN_CELLS:
        found.append(
            Flag(
                "few",
                "doubt",
                f"Only {count.num_cells} white cells: count {MIN_CELLS} or more, better 200.",
            )
        )
    return found


def _counted(count: "Differential", share: "Share") -> str:
    """Return the plain count of a share, what a person named, and the estimate if it is shown."""
    cells = f"{share.counted} cell{'' if share.counted == 1 else 's'}"
    text = f"{100 * share.counted / count.num_cells:.1f} % of the white cells ({cells}"
    if share.named:
        text += ", all" if share.named == share.counted else f", {share.named}"
        text += " named by a person"
    if count.shows_estimate and share.identifiable and share.named < share.counted:
        low, high = 100 * share.low, 100 * share.high
        text += f"; estimated {100 * share.fraction:.1f} %, {low:.1f} to {high:.1f} %"
    return f"{text})"


def _rows(chances: Floats, limit: float) -> tuple[int, ...]:
    order = np.argsort(-chances, kind="stable")
    return tuple(int(row) for row in order if chances[row] >= limit)
