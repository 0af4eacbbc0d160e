"""The tab that says what the model is, what it cannot do, and what happens to what one gives."""

from typing import Any

from hf_wbc.app.html_fragments import fragment
from hf_wbc.app.page_text import cell_name
from hf_wbc.app.run_scores import run_scores
from hf_wbc.app.service import Service
from hf_wbc.plots.style import lineage_order
from hf_wbc.taxonomy import CLASSES, NAMES


def about_html(desk: Service) -> str:
    """The text; it waits for the model."""
    scores, unread, record = None, "", desk.own.record
    if record is not None:
        try:
            scores = run_scores(record)
        except ValueError as error:
            unread = str(error)
    return fragment(
        "about.html",
        {
            "desk": desk,
            "card": desk.predictor.info,
            "scores": scores,
            "unread": unread,
            "classes": [_class(label) for label in lineage_order(NAMES)],
            "num_trained": _num_trained(desk),
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


def _num_trained(desk: Service) -> list[int] | None:
    """Held-out images by class from which its doubt was measured."""
    abstention = desk.predictor.abstention
    return None if abstention is None else list(abstention.num_images)
