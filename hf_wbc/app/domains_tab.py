"""The tab that compares a slide's cells with the training laboratories, without labels.

It shows a map of the slide's cells among the training cells stored with the model, and ranks models
by two unsupervised criteria. On real cells both criteria lost macro-F1 against a choice with labels
(docs/adaptation.md), so the page calls them hints.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from hf_wbc.app.components import busy, error_message
from hf_wbc.app.html_fragments import fragment, notice, script
from hf_wbc.app.service import PageModel, Service, model_title
from hf_wbc.app.sessions import Sessions, visitor_id
from hf_wbc.app.slide_state import Slide
from hf_wbc.config import TrainConfig
from hf_wbc.plots.html import Picture, picture

if TYPE_CHECKING:
    from hf_wbc.inference.cell_prediction import CellPrediction


FEWEST = 5
"""Least number of cells for a comparison."""
WELCOME = (
    "Predict a slide in the tab Many cells first. This tab then shows where its cells lie "
    "among those "
    "of the training laboratories, and which model fits them best."
)


def domains_tab(service: Service, sessions: Sessions) -> None:
    """Add the tab's components and events to the current blocks."""
    button = gr.Button("Compare the slide in Many cells", variant="primary", elem_id="domains-go")
    result = gr.HTML(notice(WELCOME), elem_id="domains-result", js_on_load=script("live.js"))

    def show(request: gr.Request) -> str:
        return _shown(service, sessions.slide(visitor_id(request)))

    button.click(show, None, [result], **busy("/domains"))


def _shown(service: Service, slide: Slide) -> str:
    if len(slide.cases) < FEWEST:
        return notice(f"{WELCOME} It needs at least {FEWEST} cells.")

    shown = ""
    with error_message() as failed:
        values = {
            "found": domain_map(service, slide),
            "fits": rank_models(service, slide),
            "num_cells": len(slide.cases),
        }
        shown = fragment("domains.html", values)
    return shown + failed.html


def laboratory_fit(service: Service, slide: Slide) -> str:
    """State in a sentence whether a slide's cells resemble the training cells."""
    from hf_wbc.evaluation.feature_space import nearest_neighbors, own_distances

    gallery = service.predictor.reference_set.gallery
    if gallery is None:
        return "Not known: the model has no reference cells."
    if len(slide.cases) < FEWEST:
        return f"Not known: it needs at least {FEWEST} cells."
    known = gallery.features.astype(np.float64)
    own = own_distances(known)
    distance = float(np.median(nearest_neighbors(known, _features(slide))[1]))
    numbers = (
        f"median distance to the nearest training cell {distance:.3f}, among training cells "
        f"{float(np.median(own)):.3f}"
    )
    if _is_far(distance, own):
        return f"Doubtful: the cells are unlike the training cells ({numbers})."
    return f"The cells lie among the training cells ({numbers})."


def _features(slide: Slide) -> NDArray[np.float64]:
    from hf_wbc.evaluation.validators import unit_rows

    found: NDArray[np.float64] = unit_rows(
        np.stack([case.prediction.features for case in slide.cases]).astype(np.float64)
    )
    return found


def _is_far(distance: float, own: NDArray[np.float64]) -> bool:
    return distance > float(np.quantile(own, 0.95))


YOURS = "your cells"


@dataclass(frozen=True)
class DomainMap:
    """A map of the slide's cells among the training cells, with its numbers."""

    map: Picture
    share: float
    """Fraction of the training cells' variance that the map shows."""
    num_known: int
    nearest_sources: tuple[tuple[str, float], ...]
    """Fraction of the cells whose nearest training cell is from each laboratory."""
    distance: float
    """Median distance of the cells to their nearest training cell."""
    own_distance: float
    """Median distance of the training cells to each other."""
    is_far: bool


def domain_map(service: Service, slide: Slide) -> DomainMap | None:
    """Map a slide's cells; None for a model without stored training cells."""
    from hf_wbc.evaluation.feature_space import nearest_neighbors, own_distances, principal_plane
    from hf_wbc.plots.cell_map import draw_domains_map

    gallery = service.predictor.reference_set.gallery
    if gallery is None:
        return None
    mine = _features(slide)
    known = gallery.features.astype(np.float64)
    plane = principal_plane(known)
    names = (*sorted(set(gallery.sources)), YOURS)
    domains = np.array([names.index(source) for source in gallery.sources], np.int64)
    points = np.concatenate([plane.project(known), plane.project(mine)])
    kinds = np.concatenate([domains, np.full(len(mine), len(names) - 1)])
    found, distances = nearest_neighbors(known, mine)
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
        is_far=_is_far(distance, own),
    )


MOST_CELLS = 300


@dataclass(frozen=True)
class ModelFit:
    """How well one model fits the slide."""

    name: str
    method: str
    class_ami: float
    """Agreement of its predicted classes with clusters of its features."""
    softmax_corr: float
    """How rarely it predicts two classes together."""
    rejected: float
    """Fraction of the cells that it rejects."""
    is_this: bool


@dataclass(frozen=True)
class ModelRanking:
    """All models, ranked on the slide."""

    found: tuple[ModelFit, ...]
    """Best first."""
    left_out: tuple[str, ...]
    """One sentence for each model that could not be compared."""


def rank_models(service: Service, slide: Slide) -> ModelRanking:
    """Rank the page's model and the other loaded models on a slide."""
    cases = slide.cases[:: -(-len(slide.cases) // MOST_CELLS)]
    found = [_fit(service.own, [case.prediction for case in cases], True)]
    left_out = []
    for model in service.others:
        if not model.settled.done():
            left_out.append(
                f"The model “{model.name}” is still loading; compare again in a moment."
            )
            continue
        try:
            predictor = model.predictor
        except ValueError as error:
            left_out.append(f"The model “{model.name}” cannot be compared: {error}.")
            continue
        pixels = [case.picture.pixels for case in cases]
        predictions = predictor.predict(pixels, cases[0].prediction.um_per_px)
        found.append(_fit(model, predictions, False))
    return ModelRanking(tuple(sorted(found, key=lambda fit: -fit.class_ami)), tuple(left_out))


def _fit(model: PageModel, predictions: "list[CellPrediction]", is_this: bool) -> ModelFit:
    from hf_wbc.evaluation.validators import class_ami, softmax_corr

    p = np.stack([prediction.probabilities for prediction in predictions])
    features = np.stack([prediction.features for prediction in predictions])
    return ModelFit(
        name=model_title(model.name),
        method="unknown"
        if model.record is None
        else TrainConfig.from_record(model.record).adapt.method,
        class_ami=class_ami(features, p.argmax(1)),
        softmax_corr=softmax_corr(p),
        rejected=float(np.mean([prediction.rejected for prediction in predictions])),
        is_this=is_this,
    )
