"""The page of a stress test: one HTML file with tables, curves and example cells."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.special import softmax

from hf_wbc.data.corruptions import SEVERITIES, Corruption, corrupt
from hf_wbc.data.crop import Geometry, resize_squares
from hf_wbc.evaluation.metrics import merged_labels
from hf_wbc.inference.stress import StressTest
from hf_wbc.plots.class_names import display_name
from hf_wbc.plots.html import data_uri, picture, png, render_page
from hf_wbc.plots.stress_curves import draw_stress_curves, title
from hf_wbc.records import atomic_replace
from hf_wbc.taxonomy import NAMES

__all__ = ["write_stress_page"]

TEMPLATE = "model_cards/stress.html"
PAGE = "index.html"
CURVES = "curves.png"
_EXAMPLE_PX = 120


@dataclass(frozen=True)
class _View:
    """One cell under one condition, and what the model makes of it."""

    uri: str
    called: str
    """Display name of the predicted class."""
    probability: float
    is_right: bool


@dataclass(frozen=True)
class _Example:
    """A cell unchanged and at the four severities of a corruption."""

    corruption: Corruption
    true: str
    """Display name of the true class."""
    image_id: str
    views: tuple[_View, ...]


def write_stress_page(folder: Path, record: Mapping[str, Any], test: StressTest) -> Path:
    """Write index.html and curves.png to the folder of a finished stress test.

    Returns:
        The page.
    """
    figure = draw_stress_curves(record)
    with atomic_replace(folder / CURVES) as temporary:
        temporary.write_bytes(png(figure))
    values = {
        "record": record,
        "curves": picture(figure, "macro-F1 and calibration error by corruption and severity"),
        "corruptions": test.corruptions,
        "examples": _examples(test, record["merge"]),
    }
    filters: dict[str, Callable[..., Any]] = {
        "clinical": display_name,
        "shade": _shade,
        "title": title,
        "micro": lambda text: text.replace(" um", " µm"),
    }
    page = folder / PAGE
    with atomic_replace(page) as temporary:
        temporary.write_text(render_page(TEMPLATE, filters, values), encoding="utf-8")
    return page


def _shade(value: float, clean: float) -> str:
    """Return the background of a score: white at the clean score, orange far below it."""
    lost = float(np.clip((clean - value) / max(clean, 1e-9), 0, 1))
    return f"rgba(213, 94, 0, {0.75 * lost:.2f})"


def _examples(test: StressTest, merge: list[str]) -> list[_Example]:
    """Return one cell for each corruption, all of them from the first block.

    Classes take turns; within a class, the first cell is taken that the model names correctly.
    """
    pixels, into = next(test.decode(test.rows)), merged_labels(merge)
    ids, labels = test.image_ids[: len(pixels)], test.labels[: len(pixels)]
    is_right = into[test.logits(pixels).argmax(1)] == into[labels]
    present = np.unique(labels)
    examples = []
    for number, corruption in enumerate(test.corruptions):
        label = present[number % len(present)]
        mine = np.flatnonzero(labels == label)
        row = int(mine[np.argmax(is_right[mine])])
        cell = test.cells(corruption, pixels, ids)[row : row + 1]
        shown = np.concatenate([corrupt(corruption, cell, s) for s in range(SEVERITIES + 1)])
        probabilities = softmax(test.logits(shown).astype(np.float64), axis=1)
        small = resize_squares(shown, Geometry(_EXAMPLE_PX, resample=3))
        views = tuple(
            _View(
                data_uri(Image.fromarray(image), "WEBP", quality=85),
                display_name(NAMES[int(p.argmax())]),
                float(p.max()),
                bool(into[int(p.argmax())] == into[label]),
            )
            for image, p in zip(small, probabilities, strict=True)
        )
        examples.append(_Example(corruption, display_name(NAMES[label]), ids[row], views))
    return examples
