"""Where a slide's cells lie among the training cells that travel with the model."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from hf_wbc.app.desk import Desk
from hf_wbc.app.slide import Slide
from hf_wbc.evaluation.validators import nearest, own_distances, principal_plane, unit
from hf_wbc.plots.html import Picture, picture

YOURS = "your cells"


@dataclass(frozen=True)
class Whereabouts:
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


def whereabouts(desk: Desk, slide: Slide) -> Whereabouts | None:
    """None where the model was saved without training cells."""
    from hf_wbc.plots.cell_map import draw_domains_map

    gallery = desk.predictor.reference.gallery
    if gallery is None:
        return None
    mine = unit(np.stack([case.answer.features for case in slide.cases]).astype(np.float64))
    known = gallery.features.astype(np.float64)
    plane = principal_plane(known)
    names = (*sorted(set(gallery.sources)), YOURS)
    domains = np.array([names.index(source) for source in gallery.sources], np.int64)
    points = np.concatenate([plane.project(known), plane.project(mine)])
    kinds = np.concatenate([domains, np.full(len(mine), len(names) - 1)])
    found, distances = nearest(known, mine)
    own = own_distances(known)
    counts = Counter(gallery.sources[index] for index in found)
    distance = float(np.median(distances))
    return Whereabouts(
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
