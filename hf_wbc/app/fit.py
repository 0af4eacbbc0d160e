"""Which model fits a slide best, as far as that can be told without labels.

Two rules that look at predictions alone; on real cells each lost macro-F1 against a choice with
labels (docs/adaptation.md), so that the page calls them hints.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from hf_wbc.app.desk import Desk, Slide
from hf_wbc.engine.cell_answer import CellAnswer
from hf_wbc.engine.predictor import Predictor
from hf_wbc.evaluation.certainty import softmax_corr
from hf_wbc.evaluation.clusters import class_ami
from hf_wbc.records import RunFolder

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


def fits(desk: Desk, slide: Slide) -> list[Fit]:
    """The page's model and the others, the best first."""
    step = -(-len(slide.cases) // MOST_CELLS)
    cases = slide.cases[::step]
    found = [_fit(desk.model, [case.answer for case in cases], True)]
    for model in desk.others:
        pixels = [case.picture.pixels for case in cases]
        answers = _load(model).predict(pixels, cases[0].answer.um_per_px)
        found.append(_fit(model, answers, False))
    return sorted(found, key=lambda fit: -fit.class_ami)


def _fit(model: str, answers: list[CellAnswer], is_this: bool) -> Fit:
    p = np.stack([answer.probabilities for answer in answers])
    features = np.stack([answer.features for answer in answers])
    run = RunFolder(Path(model).resolve().parent)
    method = str(run.read_record()["config"]["method"]) if run.finished else "unknown"
    return Fit(
        name=run.path.name if run.finished else Path(model).name,
        method=method,
        class_ami=class_ami(features, p.argmax(1)),
        softmax_corr=softmax_corr(p),
        rejected=float(np.mean([answer.rejected for answer in answers])),
        is_this=is_this,
    )


@cache
def _load(model: str) -> Predictor:
    return Predictor.load(model)
