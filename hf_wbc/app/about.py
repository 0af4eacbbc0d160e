"""The tab about the model, its limits, and what happens to uploads."""

from typing import Any

from hf_wbc.app.html_fragments import fragment
from hf_wbc.app.page_text import cell_name
from hf_wbc.app.run_scores import run_scores
from hf_wbc.app.service import Service
from hf_wbc.plots.class_names import lineage_order
from hf_wbc.taxonomy import CLASSES, NAMES


def about_html(service: Service) -> str:
    """Render the tab; blocks until the model is loaded."""
    scores, unread, record = None, "", service.own.record
    if record is not None:
        try:
            scores = run_scores(record)
        except ValueError as error:
            unread = str(error)
    return fragment(
        "about.html",
        {
            "service": service,
            "card": service.predictor.info,
            "scores": scores,
            "unread": unread,
            "classes": [_class(label) for label in lineage_order(NAMES)],
            "num_trained": _num_trained(service),
        },
    )


def _class(label: int) -> dict[str, Any]:
    cell = CLASSES[label]
    return {
        "id": label,
        "name": cell_name(label),
        "lineage": cell.lineage,
        "stage": cell.maturation or "",
    }


def _num_trained(service: Service) -> list[int] | None:
    """Held-out images by class that the abstention was fitted on."""
    abstention = service.predictor.abstention
    return None if abstention is None else list(abstention.num_images)
