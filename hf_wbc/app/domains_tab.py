"""The tab that says how much the dropped cells are like those of the training laboratories.

Where a slide's cells lie among the training cells that travel with the model.

Which model fits a slide best, as far as that can be told without labels.

Two rules that look at predictions alone; on real cells each lost macro-F1 against a choice with
labels (docs/adaptation.md), so that the page calls them hints."""

from collections import Counter
from dataclasses import dataclass

import gradio as gr
import numpy as np

from hf_wbc.app.components import busy, error_message
from hf_wbc.app.html_fragments import fragment, notice, script
from hf_wbc.app.service import PageModel, Service, model_title
from hf_wbc.app.sessions import Sessions, visitor_id
from hf_wbc.app.slide_state import Slide
from hf_wbc.config import TrainConfig
from hf_wbc.evaluation.validators import (
    class_ami,
    nearest_neighbours,
    own_distances,
    principal_plane,
    softmax_corr,
    unit_rows,
)
from hf_wbc.inference.cell_prediction import CellPrediction
from hf_wbc.plots.html import Picture, picture

FEWEST = 5
"""Cells below which nothing can be said of a laboratory."""
WELCOME = (
    "Read a slide in the tab Many cells first: here you see where its cells lie among those of the "
    "training laboratories, and which model fits them best."
)


def domains_tab(desk: Service, sessions: Sessions) -> None:
    """Put the tab's components and events into the open blocks."""
    button = gr.Button("Compare the slide of Many cells", variant="primary", elem_id="domains-go")
    result = gr.HTML(notice(WELCOME), elem_id="domains-result", js_on_load=script("live.js"))

    def show(request: gr.Request) -> str:
        return _shown(desk, sessions.slide(visitor_id(request)))

    button.click(show, None, [result], **busy("/domains"))


def _shown(desk: Service, slide: Slide) -> str:
    if len(slide.cases) < FEWEST:
        return notice(f"{WELCOME} It takes {FEWEST} cells or more.")

    shown = ""
    with error_message() as failed:
        values = {
            "found": domain_map(desk, slide),
            "fits": rank_models(desk, slide),
            "num_cells": len(slide.cases),
        }
        shown = fragment("domains.html", values)
    return shown + failed.html


YOURS = "your cells"


@dataclass(frozen=True)
class DomainMap:
    """The picture and its numbers."""

    map: Picture
    share: float
    """Of the training cells' variance that the picture shows."""
    num_known: int
    nearest_sources: tuple[tuple[str, float], ...]
    """The share of the cells whose nearest training cell is of each laboratory."""
    distance: float
    """Median distance of the cells to their nearest training cell."""
    own_distance: float
    """The same of the training cells to each other."""
    is_far: bool


def domain_map(desk: Service, slide: Slide) -> DomainMap | None:
    """None where the model was saved without training cells."""
    from hf_wbc.plots.cell_map import draw_domains_map

    gallery = desk.predictor.reference_set.gallery
    if gallery is None:
        return None
    mine = unit_rows(np.stack([case.answer.features for case in slide.cases]).astype(np.float64))
    known = gallery.features.astype(np.float64)
    plane = principal_plane(known)
    names = (*sorted(set(gallery.sources)), YOURS)
    domains = np.array([names.index(source) for source in gallery.sources], np.int64)
    points = np.concatenate([plane.project(known), plane.project(mine)])
    kinds = np.concatenate([domains, np.full(len(mine), len(names) - 1)])
    found, distances = nearest_neighbours(known, mine)
    own = own_distances(known)
    counts = Counter(gallery.sources[index] for index in found)
    distance = float(np.median(distances))
    return DomainMap(
        map=picture(
            draw_domains_map(points, kinds, names),
            f"A map of {len(known)} training cells by laboratory, with your {len(mine)} cells",
            points=True,
        ),
        share=plane.share,
        num_known=len(known),
        nearest_sources=tuple((name, num / len(mine)) for name, num in counts.most_common()),
        distance=distance,
        own_distance=float(np.median(own)),
        is_far=distance > float(np.quantile(own, 0.95)),
    )


MOST_CELLS = 300


@dataclass(frozen=True)
class ModelFit:
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
class ModelRanking:
    """All models on the slide."""

    found: tuple[ModelFit, ...]
    """The best first."""
    left_out: tuple[str, ...]
    """Models that could not be loaded, each with the reason."""


def rank_models(desk: Service, slide: Slide) -> ModelRanking:
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
    return ModelRanking(tuple(sorted(found, key=lambda fit: -fit.class_ami)), tuple(left_out))


def _fit(model: PageModel, answers: list[CellPrediction], is_this: bool) -> ModelFit:
    p = np.stack([answer.probabilities for answer in answers])
    features = np.stack([answer.features for answer in answers])
    return ModelFit(
        name=model_title(model.name),
        method="unknown"
        if model.record is None
        else TrainConfig.from_record(model.record).adapt.method,
        class_ami=class_ami(features, p.argmax(1)),
        softmax_corr=softmax_corr(p),
        rejected=float(np.mean([answer.rejected for answer in answers])),
        is_this=is_this,
    )
