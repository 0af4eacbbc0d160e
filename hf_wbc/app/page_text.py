"""Predictions as sentences for people who look at cells."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_wbc.app.html_fragments import percent
from hf_wbc.comparison.document import join_names
from hf_wbc.evaluation.smear_flags import BLAST_PROBABILITY, MYELOBLAST
from hf_wbc.plots.class_names import display_name
from hf_wbc.taxonomy import (
    BLAST_EQUIVALENTS,
    CLASSES,
    NAMES,
    Consequence,
    Relation,
    consequence,
    relation,
)

if TYPE_CHECKING:
    from hf_wbc.inference.cell_prediction import CellPrediction
    from hf_wbc.inference.saliency import DeletionTest

OUTSIDE = {
    -3: "platelet or clump",
    -4: "smudge cell",
    -5: "artifact",
    -6: "two cells touching",
    -7: "reactive lymphocyte",
    -8: "plasma cell",
    -2: "other, none of the eleven",
}
"""A person's labels for what belongs to none of the eleven classes; none is in the count."""
LIKELY = 0.02
"""Least probability at which a class is listed as a possible confusion."""
_BEFORE_ADVICE = re.compile("[:;] ")
HOW_FAR = {
    Relation.ONE_STEP: "one step of maturation away",
    Relation.SAME_LINEAGE: "another class of the same lineage",
    Relation.CROSS_LINEAGE: "of another lineage: a serious confusion",
}
CRITICAL = "a blast or promyelocyte would be missed: a critical confusion"
FALSE_ALARM = "a false alarm of blasts: a serious confusion"


@dataclass(frozen=True)
class Confusable:
    """A class that the cell may belong to instead."""

    name: str
    probability: float
    how_far: str
    is_grave: bool


def cell_name(label: int) -> str:
    """The displayed name of a class, such as `band neutrophil`, or of a label of `OUTSIDE`."""
    return OUTSIDE[label] if is_outside(label) else display_name(NAMES[label])


def is_outside(label: int) -> bool:
    """Whether a person's label is one of `OUTSIDE`."""
    return label in OUTSIDE


def outside_key(label: int) -> str:
    """The name of a label of `OUTSIDE` in files: `smudge_cell`."""
    return OUTSIDE[label].partition(",")[0].replace(" ", "_")


def with_article(label: int) -> str:
    """The class name with its article: `an eosinophil`."""
    name = cell_name(label)
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def set_sentences(
    prediction: "CellPrediction", alpha: float | None, always: Collection[int]
) -> list[str]:
    """Describe the conformal prediction set.

    Args:
        prediction: The prediction for one cell.
        alpha: Fraction of sets that may miss the true class; None for a model without sets.
        always: Classes that are in every set because too few of their cells were held out.

    Returns:
        One sentence per statement; the first is the most important.
    """
    if alpha is None:
        return [
            "This model was saved without prediction sets, so it cannot say which other "
            "classes fit."
        ]
    fitting = [label for label in prediction.conformal_set if label not in always]
    percent = round(100 * (1 - alpha))
    level, sentences = f"{percent} %", []
    if prediction.label in always:
        also = f" The cell may be {join_names([with_article(label) for label in fitting], 'or')}."
        sentences.append(
            "Too few cells of this class were held out to judge how well it fits."
            f"{also if fitting else ' No other class that can be judged fits.'}"
        )
    elif not fitting:
        sentences.append("No class that can be judged fits this image well.")
    elif prediction.label not in prediction.conformal_set:
        others = join_names([with_article(label) for label in fitting], "or")
        sentences.append(
            f"The cell fits this class worse than most held-out cells do; it may be {others}."
        )
    elif fitting == [prediction.label]:
        sentences.append(
            f"The {level} prediction set contains only: {cell_name(prediction.label)}."
        )
    else:
        names = join_names([cell_name(label) for label in fitting])
        sentences.append(f"The {level} prediction set contains: {names}.")
    if kept := [label for label in sorted(always) if label in prediction.conformal_set]:
        names = join_names([cell_name(label) for label in kept])
        sentences.append(f"Too few cells were held out to ever exclude {names}.")
    sentences.append(
        f"At least {percent} of 100 such sets contain the true class for cells from the training "
        "laboratories. For cells from other laboratories there is no such guarantee."
    )
    return sentences


def confusables(prediction: "CellPrediction", most: int = 3) -> list[Confusable]:
    """The most probable other classes and what a confusion with each would mean."""
    order = prediction.probabilities.argsort()[::-1]
    others = [
        int(i) for i in order if i != prediction.label and prediction.probabilities[i] >= LIKELY
    ]
    return [
        Confusable(
            cell_name(label),
            float(prediction.probabilities[label]),
            _how_far(label, prediction.label),
            consequence(label, prediction.label) >= Consequence.SERIOUS,
        )
        for label in others[:most]
    ]


def _how_far(label: int, predicted: int) -> str:
    """Describe what it means if a cell of class `label` is predicted as another."""
    if consequence(label, predicted) is Consequence.CRITICAL:
        return CRITICAL
    if predicted in BLAST_EQUIVALENTS and label not in BLAST_EQUIVALENTS:
        return FALSE_ALARM
    return HOW_FAR[relation(predicted, label)]


def map_sentence(test: "DeletionTest", label: int) -> str:
    """Describe the result of the deletion test of a saliency map.

    >>> from hf_wbc.inference.saliency import DeletionTest
    >>> map_sentence(DeletionTest(0.93, 0.12, (0.8, 0.9)), 0)
    'Tested: the probability of basophil is 93.0 %. With the most marked fifth of the image \
blurred it is 12.0 %; with other parts of the same size blurred it is 85.0 % on average.'
    """
    from hf_wbc.inference.saliency import SHARE

    assert SHARE == 1 / 5
    found = (test.original, test.marked_hidden, test.mean_random_hidden)
    whole, marked, others = map(percent, found)
    result = (
        f"the probability of {cell_name(label)} is {whole}. With the most marked fifth of the "
        f"image blurred it is {marked}; with other parts of the same size blurred it is {others} "
        "on average"
    )
    if test.passed:
        return f"Tested: {result}."
    return f"The map fails its test for this cell, so ignore it: {result}."


def reasons_to_look(
    prediction: "CellPrediction",
    always: Collection[int],
    blasts_from: float | None = None,
    shown: Collection[str] = (),
) -> list[str]:
    """The reasons for a person to review a cell, in a few words each; often none.

    Args:
        prediction: The prediction for one cell.
        always: Classes that are in every prediction set; they are not a reason.
        blasts_from: The model's review threshold for myeloblasts, as in the flags of the count.
        shown: Warnings that most cells share and that the page shows once.

    Returns:
        The reasons. An estimated scale is not one of them: the page states it once for all cells.
    """
    from hf_wbc.inference.cell_prediction import is_field, outside_warning

    found = []
    others = [c for c in prediction.conformal_set if c not in always and c != prediction.label]
    if prediction.rejected and not is_field(prediction.warnings):
        kind = prediction.outlier.replace("_", " ")
        found.append(f"looks like a {kind}" if kind else "unlike the training cells")
    if others:
        found.append(f"may be {join_names([cell_name(label) for label in others], 'or')}")
    if prediction.conformal_set and prediction.label not in prediction.conformal_set:
        found.append("its predicted class fits poorly")
    if prediction.label == MYELOBLAST:
        found.append("blasts always need a person's review")
    elif MYELOBLAST not in others and (
        prediction.probabilities[MYELOBLAST]
        >= (BLAST_PROBABILITY if blasts_from is None else blasts_from)
    ):
        found.append("may be a blast")
    result = (*shown, outside_warning(prediction.outlier))
    warned = (each for each in remaining_warnings(prediction) if each not in result)
    return [*found, *(_BEFORE_ADVICE.split(each.rstrip("."))[0] for each in warned)]


def remaining_warnings(prediction: "CellPrediction") -> list[str]:
    """The warnings without a place of their own on the page."""
    from hf_wbc.inference.cell_prediction import OUTSIDE as OUTSIDE_THE_ELEVEN

    estimate = prediction.scale_estimate
    elsewhere = (OUTSIDE_THE_ELEVEN, *(() if estimate is None else estimate.sentences))
    return [each for each in prediction.warnings if each not in elsewhere]


def lineage_label(label: int) -> str:
    """The lineage of a class; empty for `OUTSIDE`."""
    return "" if is_outside(label) else CLASSES[label].lineage
