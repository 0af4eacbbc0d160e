"""What the predictor says, in sentences for someone who looks at cells."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_wbc.app.html_fragments import share
from hf_wbc.comparison.document import join_names
from hf_wbc.evaluation.smear_flags import BLAST_PROBABILITY, MYELOBLAST
from hf_wbc.inference.cell_prediction import CellPrediction
from hf_wbc.plots.style import display_names
from hf_wbc.taxonomy import CLASSES, NAMES, Relation, relation

if TYPE_CHECKING:
    from hf_wbc.inference.saliency import DeletionTest

OUTSIDE = -2
"""What a person may call a cell instead of a class: none of the eleven."""
OUTSIDE_NAME = "none of the eleven"
LIKELY = 0.02
"""Classes of less are not named as what a cell may be confused with."""
GUESS = "scale is a guess from"
"""In the predictor's warning of a scale that nobody gave, and that the cell's size tells."""
_BEFORE_ADVICE = re.compile("[:;] ")
HOW_FAR = {
    Relation.ONE_STEP: "one step of maturation away",
    Relation.SAME_LINEAGE: "another cell of the same lineage",
    Relation.CROSS_LINEAGE: "of another lineage: a grave confusion",
}


@dataclass(frozen=True)
class Confusable:
    """A class that a cell may be instead."""

    name: str
    probability: float
    how_far: str
    is_grave: bool


def cell_name(label: int) -> str:
    """A class as it is written: `neutrophil, banded`."""
    return OUTSIDE_NAME if label == OUTSIDE else display_names(NAMES[label])


def with_article(label: int) -> str:
    """A class in a sentence: `an eosinophil`."""
    name = cell_name(label)
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def set_sentences(
    answer: CellPrediction, alpha: float | None, always: Collection[int]
) -> list[str]:
    """The conformal set in words.

    `alpha` is the share of sets that may miss the class, None for a model without sets; `always`
    are the classes of which too few cells were held out to leave them out of any set.
    """
    if alpha is None:
        return ["This model was saved without conformal sets: it does not say what else may fit."]
    fitting = [label for label in answer.conformal_set if label not in always]
    said = []
    if answer.label in always:
        also = f"; it may be {join_names([with_article(label) for label in fitting], 'or')}"
        said.append(
            "Too few cells of its class were held out to say how well it fits"
            f"{also if fitting else ', and no other class that can be judged does'}."
        )
    elif not fitting:
        said.append("None of the classes that can be judged fits this image well.")
    elif answer.label not in answer.conformal_set:
        others = join_names([with_article(label) for label in fitting], "or")
        said.append(f"It fits worse than most held-out cells of its class; it may be {others}.")
    elif fitting == [answer.label]:
        said.append(f"Nothing but {with_article(answer.label)} fits.")
    else:
        said.append(f"It may be {join_names([with_article(label) for label in fitting], 'or')}.")
    if kept := [label for label in sorted(always) if label in answer.conformal_set]:
        names = join_names([cell_name(label) for label in kept])
        said.append(f"Too few cells were held out to ever leave out {names}.")
    right = round(100 * (1 - alpha))
    said.append(
        f"For cells of the laboratories that the model knows, at least {right} of 100 such sets "
        "hold the right class; for others nobody promises that."
    )
    return said


def confusables(answer: CellPrediction, most: int = 3) -> list[Confusable]:
    """The likeliest other classes, and how far each is in the tree of blood cells."""
    order = answer.probabilities.argsort()[::-1]
    others = [int(i) for i in order if i != answer.label and answer.probabilities[i] >= LIKELY]
    return [
        Confusable(
            cell_name(label),
            float(answer.probabilities[label]),
            HOW_FAR[how],
            how is Relation.CROSS_LINEAGE,
        )
        for label in others[:most]
        for how in (relation(answer.label, label),)
    ]


def map_sentence(test: "DeletionTest", label: int) -> str:
    """What the deletion test says of a saliency map.

    >>> from hf_wbc.inference.saliency import Deletion
    >>> map_sentence(Deletion(0.93, 0.12, (0.8, 0.9)), 0)
    'Tested: the probability of basophil is 0.93; with the most marked fifth of the picture \
blurred it is 0.12, with other parts of that size blurred 0.85 on average.'
    """
    from hf_wbc.inference.saliency import SHARE

    assert SHARE == 1 / 5
    whole, marked, others = map(share, (test.original, test.marked_hidden, test.mean_random_hidden))
    found = (
        f"the probability of {cell_name(label)} is {whole}; with the most marked fifth of the "
        f"picture blurred it is {marked}, with other parts of that size blurred {others} on average"
    )
    if test.passed:
        return f"Tested: {found}."
    return f"The map fails its test here, read nothing into it: {found}."


def reasons_to_look(
    answer: CellPrediction,
    always: Collection[int],
    blasts_from: float | None = None,
    said: Collection[str] = (),
) -> list[str]:
    """Why a person should look at a cell, in a few words each; empty where nothing speaks for it.

    The scale's guess is said once for all cells, and is no reason for each; nor are classes that
    are in every set, `always`. `blasts_from` is the model's own review threshold for myeloblasts,
    as in the flags of the count; `said` are warnings that most cells have, and that are said once.
    """
    found = []
    others = [c for c in answer.conformal_set if c not in always and c != answer.label]
    if answer.rejected:
        found.append("unlike the cells the model knows")
    if others:
        found.append(f"may be {join_names([cell_name(label) for label in others], 'or')}")
    if answer.conformal_set and answer.label not in answer.conformal_set:
        found.append("its own class fits badly")
    if answer.label == MYELOBLAST:
        found.append("a blast is never left to a classifier")
    elif MYELOBLAST not in others and (
        answer.probabilities[MYELOBLAST]
        >= (BLAST_PROBABILITY if blasts_from is None else blasts_from)
    ):
        found.append("may be a blast")
    warned = (each for each in remaining_warnings(answer) if each not in said)
    return [*found, *(_BEFORE_ADVICE.split(each.rstrip("."))[0] for each in warned)]


def remaining_warnings(answer: CellPrediction) -> list[str]:
    """The warnings that the page has no place of its own for, as it has for a guessed scale."""
    from hf_wbc.inference.cell_prediction import OUTSIDE as OUTSIDE_THE_ELEVEN

    return [each for each in answer.warnings if each != OUTSIDE_THE_ELEVEN and GUESS not in each]


def lineage_label(label: int) -> str:
    """The lineage of a class, empty for none of the eleven."""
    return "" if label == OUTSIDE else CLASSES[label].lineage
