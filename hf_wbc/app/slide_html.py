"""A slide as HTML: the differential count, and the gallery in which a person reviews the cells."""

from collections import Counter
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_wbc.app import html_fragments
from hf_wbc.app.count import count_cells, is_counted
from hf_wbc.app.field_cells import box_in_field
from hf_wbc.app.html_fragments import fragment, notice
from hf_wbc.app.page_text import (
    OUTSIDE,
    cell_name,
    lineage_label,
    reasons_to_look,
    remaining_warnings,
)
from hf_wbc.app.review_gallery import ReferenceImage, ReviewCell, ReviewClass, gallery_html
from hf_wbc.app.samples import Samples
from hf_wbc.app.service import Service
from hf_wbc.app.slide_state import Slide, SlideCell
from hf_wbc.labeling.contact_sheet import CLASS_KEYS
from hf_wbc.taxonomy import CLINICAL_ORDER, HARM, NAMES, NUM_CLASSES, consequence

if TYPE_CHECKING:
    from hf_wbc.inference.gallery import Gallery

FEWEST_ALIKE = 3
"""Up to this many cells, a shared warning is shown beside each of them."""
NOTHING = (
    "No white cell is left to count: the model rejected the cells as unlike its training cells, or "
    "they are nucleated red cells, or you marked them as none of the eleven. Check the scale, and "
    "name the cells that are white cells."
)
REVIEW_CLASSES = (
    *(
        ReviewClass(label, cell_name(label), CLASS_KEYS[NAMES[label]], lineage_label(label))
        for label in CLINICAL_ORDER
    ),
    *(
        ReviewClass(label, cell_name(label), str(number), is_counted=False)
        for number, label in enumerate(OUTSIDE, 1)
    ),
)
"""The eleven classes in clinical order, and the bins for what is none of them."""
REVIEW_LABELS = frozenset(each.id for each in REVIEW_CLASSES)
_HARM = np.array(
    [
        [HARM[consequence(true, called)] for called in range(NUM_CLASSES)]
        for true in range(NUM_CLASSES)
    ]
)
MOST_TOP = 3
"""Number of classes whose probabilities the gallery shows."""
NUM_REFERENCES = 4
"""Training cells that the gallery shows of each class."""


def count_html(service: Service, slide: Slide) -> str:
    """Render the differential count, or a sentence if no cell is left to count."""
    count = count_cells(service, slide)
    return notice(NOTHING) if count is None else fragment("count.html", {"count": count})


def compare_html(service: Service, samples: Samples) -> str:
    """Render the counts of all samples side by side; empty for fewer than two."""
    counts = [
        (number, count)
        for number, slide in samples.slides.items()
        if slide.cases and (count := count_cells(service, slide)) is not None
    ]
    return fragment("compare.html", {"counts": counts}) if len(counts) > 1 else ""


def review_html(service: Service, slide: Slide, sample: int) -> str:
    """Render the cells for the gallery."""
    shown = common_warnings(slide)
    cells = [_review_cell(service, case, shown) for case in slide.cases]
    gallery = service.predictor.reference_set.gallery
    references = {} if gallery is None else reference_images(gallery)
    return gallery_html(cells, REVIEW_CLASSES, references, sample)


def zoom_html(case: SlideCell, sample: int) -> str:
    """Render a cell larger, and the whole image around it."""
    whole, origin = case.picture.whole, case.picture.origin
    height, width = whole.pixels.shape[:2]
    um_per_px = case.prediction.um_per_px
    return fragment(
        "review_zoom.html",
        {
            "number": case.number,
            "sample": sample,
            "seen": html_fragments.crop_image(case.picture.pixels, case.prediction),
            "whole": html_fragments.full_image(whole.pixels),
            "width": width,
            "height": height,
            "box": box_in_field(origin, um_per_px) if origin else case.prediction.box,
        },
    )


@lru_cache(maxsize=4)
def reference_images(gallery: "Gallery") -> Mapping[int, tuple[ReferenceImage, ...]]:
    """Choose the most typical training cells of each class, from different sources in turn."""
    found = {}
    for label in np.unique(gallery.labels).tolist():
        rows = [
            row
            for row in np.flatnonzero(gallery.labels == label).tolist()
            if gallery.thumbnails[row] is not None
        ]
        center = gallery.features[gallery.labels == label].mean(0)
        rows.sort(key=lambda row: -float(gallery.features[row] @ center))
        turns: Counter[str] = Counter()
        order = []
        for row in rows:
            order.append((turns[gallery.sources[row]], row))
            turns[gallery.sources[row]] += 1
        images = (
            ReferenceImage(html_fragments.thumbnail(data), gallery.sources[row])
            for _, row in sorted(order, key=lambda one: one[0])[:NUM_REFERENCES]
            if (data := gallery.thumbnails[row]) is not None
        )
        found[label] = tuple(image for image in images if image.uri)
    return found


def count_rows(service: Service, slide: Slide) -> list[dict[str, Any]]:
    """The values of each cell in a report."""
    shown = common_warnings(slide)
    return [_row(service, case, shown) for case in slide.cases]


def common_warnings(slide: Slide) -> dict[str, int]:
    """The warnings that most cells share, with the number of cells; the page shows them once."""
    counts = Counter(each for case in slide.cases for each in remaining_warnings(case.prediction))
    return {
        each: num for each, num in counts.items() if num > max(len(slide.cases) / 2, FEWEST_ALIKE)
    }


def _review_cell(service: Service, case: SlideCell, shown: Collection[str]) -> ReviewCell:
    prediction = case.prediction
    p = prediction.probabilities
    reasons = reasons_to_look(prediction, service.always_in_set, service.blasts_from, shown)
    return ReviewCell(
        number=case.number,
        digest=case.picture.digest[:16],
        name=case.picture.name,
        uri=html_fragments.card_image(case.picture.pixels, prediction),
        label=prediction.label,
        top=[(int(i), round(float(p[i]), 6)) for i in (-p).argsort(kind="stable")[:MOST_TOP]],
        doubt=round(float(1 - p[prediction.label]) + bool(reasons), 4) / 2,
        harm=round(float(p @ _HARM[:, prediction.label]), 4),
        reasons=reasons,
        given=case.corrected,
        is_unidentified=prediction.rejected,
    )


def _row(service: Service, case: SlideCell, shown: Collection[str]) -> dict[str, Any]:
    prediction = case.prediction
    return {
        "number": case.number,
        "image": case.picture.name,
        "uri": html_fragments.card_image(case.picture.pixels, prediction),
        "label": prediction.label,
        "name": cell_name(prediction.label),
        "lineage": lineage_label(prediction.label),
        "p": float(prediction.probabilities[prediction.label]),
        "reasons": reasons_to_look(prediction, service.always_in_set, service.blasts_from, shown),
        "is_counted": is_counted(case),
        "corrected": case.corrected,
    }
