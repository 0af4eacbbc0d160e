"""Which model fits a slide best, as far as that can be told without labels.

Two rules that look at predictions alone; on real cells each lost macro-F1 against a choice with
labels (docs/adaptation.md), so that the page calls them hints.
"""

from dataclasses import dataclass

import numpy as np

from hf_wbc.app.desk import Desk, title_of
from hf_wbc.app.page_model import PageModel
from hf_wbc.app.slide import Slide
from hf_wbc.evaluation.validators import class_ami, softmax_corr
from hf_wbc.inference.cell_prediction import CellAnswer

MOST_CELLS = 300


@dataclass(frozen=True)
class Fit:
    """One model on the slide."""

    name: str
    method: str
    class_ami: float
    """How well its classes agree with clusters of its features."""
    softmax_corr: float
    """How seldom two of its classes are predicted together."""
    rejected: float
    """Share of the cells that it calls unlike all it knows."""
    is_this: bool


@dataclass(frozen=True)
class Fits:
    """All models on the slide."""

    found: tuple[Fit, ...]
    """The best first."""
    left_out: tuple[str, ...]
    """Models that could not be loaded, each with the reason."""


def fits(desk: Desk, slide: Slide) -> Fits:
    """The page's model and those of the others that are loaded."""
    cases = slide.cases[:: -(-len(slide.cases) // MOST_CELLS)]
    found = [_fit(desk.own, [case.answer for case in cases], True)]
    left_out = []
    for model in desk.others:
        if not model.settled.done():
            left_out.append(f"The model “{model.name}” is still being loaded: compare again soon.")
            continue
        try:
            predictor = model.predictor
        except ValueError as error:
            left_out.append(f"The model “{model.name}” cannot be compared: {error}.")
            continue
        pixels = [case.picture.pixels for case in cases]
        answers = predictor.predict(pixels, cases[0].answer.um_per_px)
        found.append(_fit(model, answers, False))
    return Fits(tuple(sorted(found, key=lambda fit: -fit.class_ami)), tuple(left_out))


def _fit(model: PageModel, answers: list[CellAnswer], is_this: bool) -> Fit:
    p = np.stack([answer.probabilities for answer in answers])
    features = np.stack([answer.features for answer in answers])
    return Fit(
        name=title_of(model.name),
        method="unknown" if model.record is None else str(model.record["config"]["method"]),
        class_ami=class_ami(features, p.argmax(1)),
        softmax_corr=softmax_corr(p),
        rejected=float(np.mean([answer.rejected for answer in answers])),
        is_this=is_this,
    )
