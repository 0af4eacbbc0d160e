"""A gallery in which a person reviews cells, grouped by class, with one channel to save.

The browser holds the state: it answers every key, click and drop itself, keeps undo and redo, and
sends what changed through the event `save`, one message at a time and again until Python has
acknowledged it. The component knows nothing about samples, counts or models: a tab fills it with
`gallery_html`, reads the event with `saved_review`, and acknowledges with `acknowledge`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hf_wbc.app.html_fragments import fragment, script


@dataclass(frozen=True)
class ReviewClass:
    """A class that a person can give to a cell."""

    id: int
    name: str
    key: str
    """The key that gives this class, unless a person has chosen another."""
    lineage: str = ""
    is_counted: bool = True
    """Whether the class is one of the eleven; the others are bins for what is left out."""


@dataclass(frozen=True)
class ReviewCell:
    """A cell as the gallery shows it."""

    number: int
    """Names the cell in messages; unique in the gallery."""
    digest: str
    """Identifies the image, so that a review survives a lost connection."""
    name: str
    uri: str
    """The crop as a data URI."""
    label: int
    """The proposed class."""
    top: Sequence[tuple[int, float]]
    """The most probable classes with their probabilities, best first."""
    doubt: float
    """In [0, 1]; the gallery shows the most doubtful cells first."""
    harm: float
    """Expected consequence of a wrong class, for the order by consequence."""
    reasons: Sequence[str] = ()
    given: int | None = None
    """The class that a person gave; None if nobody has looked yet."""
    is_unidentified: bool = False
    """Whether the model rejects the cell, so that it has no class until a person names it."""


@dataclass(frozen=True)
class OpenGroup:
    """The group of the cells that have no class until a person names them."""

    name: str = "unidentified"
    note: str = "Unlike the training cells: not in the count until you name them."


@dataclass(frozen=True)
class ReferenceImage:
    """A training cell to compare with."""

    uri: str
    source: str


@dataclass(frozen=True)
class SavedReview:
    """What a person changed since the last message."""

    sample: int
    revision: int
    """Increases with every message; `acknowledge` returns it."""
    labels: Mapping[int, int | None]
    """Class by number of the cell; None if the person took a class back."""


def review_gallery(elem_id: str) -> Any:
    """Add the component to the current blocks; its events are `save` and `zoom`."""
    import gradio as gr

    return gr.HTML("", elem_id=elem_id, js_on_load=script("review_load.js"))


def zoom_channel(elem_id: str) -> Any:
    """Add the hidden component that takes the answer to the event `zoom`."""
    import gradio as gr

    return gr.HTML("", elem_id=elem_id, visible="hidden", js_on_load=script("review_zoomed.js"))


def gallery_html(
    cells: Sequence[ReviewCell],
    classes: Sequence[ReviewClass],
    references: Mapping[int, Sequence[ReferenceImage]],
    sample: int = 1,
    *,
    is_blind: bool = False,
    open_group: OpenGroup = OpenGroup(),
) -> str:
    """Return the value of the component.

    Args:
        cells: The cells, in any order.
        classes: The classes, in the order of the groups.
        references: Some training cells of each class.
        sample: Names the set of cells in messages and in the browser's storage.
        is_blind: No class is proposed, so that none can be confirmed; the `label` of cells is not
            one of `classes`.
        open_group: The group of unidentified cells.
    """
    data = {
        "sample": sample,
        "is_blind": is_blind,
        "open": asdict(open_group),
        "cells": [asdict(each) for each in cells],
        "classes": [asdict(each) for each in classes],
        "references": {label: [asdict(one) for one in some] for label, some in references.items()},
    }
    return fragment("review_data.html", {"data": data})


def acknowledge(review: SavedReview) -> str:
    """Return a hidden fragment that tells the browser what has been saved.

    Any output of the event may contain it.
    """
    return fragment("review_saved.html", {"review": review})


def saved_review(event: Any, labels: Collection[int]) -> SavedReview:
    """Read the data of the event `save`.

    Args:
        event: The event data, which comes from a browser and can be anything.
        labels: The ids of the classes that a person can give.

    Raises:
        ValueError: If the data is not what the gallery sends.
    """
    try:
        return SavedReview(
            _whole(event.sample), _whole(event.revision), review_labels(event.labels, labels)
        )
    except (AttributeError, TypeError, KeyError) as error:
        raise ValueError("the review that was sent is malformed; reload the page") from error


def review_labels(given: Any, labels: Collection[int]) -> dict[int, int | None]:
    """Return a person's classes by number of the cell, as the browser sends them.

    Raises:
        ValueError: If they are not such a mapping, or name an unknown class.
    """
    if not isinstance(given, dict):
        raise ValueError("the review that was sent is malformed; reload the page")
    found = {_whole(number): label for number, label in given.items()}
    for number, label in found.items():
        if label is not None and (type(label) is not int or label not in labels):
            raise ValueError(f"cell {number}: unknown class {label!r}; reload the page")
    return found


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).isdecimal():
        raise ValueError(f"{value!r} is not a number of a cell; reload the page")
    return int(value)
