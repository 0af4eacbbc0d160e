"""A page of the cells to label, in one HTML file that works without a server or a network.

A person labels with one key per class. The browser keeps the answers after every key, and saves
them as a labels file.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hf_wbc.data.labels_file import OTHER, SKIP
from hf_wbc.plots.html import data_uri, render_page
from hf_wbc.records import atomic_replace
from hf_wbc.taxonomy import CLASSES, CLINICAL_ORDER, NAMES

__all__ = ["CLASS_KEYS", "KEYS", "write_sheet"]

TEMPLATE = "model_cards/label_sheet.html"
SHOWN_PX = 312
"""Side of a cell in the page's file; it is shown at half of it."""
CLASS_KEYS: Mapping[str, str] = {
    "neutrophil_segmented": "s", "neutrophil_banded": "b", "lymphocyte_typical": "l",
    "monocyte": "m", "eosinophil": "e", "basophil": "a", "metamyelocyte": "t", "myelocyte": "y",
    "promyelocyte": "p", "myeloblast": "x", "erythroblast": "n",
}  # fmt: skip
"""Key of each class, also in the review gallery."""
KEYS: Mapping[str, str] = {
    **{CLASS_KEYS[NAMES[c]]: NAMES[c] for c in CLINICAL_ORDER},
    "o": OTHER,
    "k": SKIP,
}
"""Label of each key: the classes in clinical order, then none of them, and skip."""


def write_sheet(
    path: Path,
    name: str,
    squares: Mapping[str, NDArray[np.uint8]],
    suggestions: Mapping[str, str],
    *,
    out: str,
    reader: str = "",
) -> None:
    """Write the page.

    Args:
        path: The .html file; an existing one is replaced.
        name: Name of the laboratory.
        squares: Pixels (S, S, 3) of each cell by name, in the order of the page.
        suggestions: What the model says of each cell; hidden until a switch is set.
        out: Name of the labels file that the browser saves.
        reader: Who labels.
    """
    display_names = {cell.name: cell.clinical_name for cell in CLASSES}
    display_names |= {OTHER: "not one of these", SKIP: "skip"}
    values = {
        "name": name,
        "out": out,
        "reader": reader,
        "storage": f"hf-wbc-labels:{_digest(list(squares))}",
        "keys": [(key, label, display_names[label]) for key, label in KEYS.items()],
        "cells": [
            {
                "image_id": image_id,
                "uri": data_uri(_shown(square), "JPEG", quality=90),
                "suggestion": suggestions.get(image_id, ""),
            }
            for image_id, square in squares.items()
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(path) as temporary:
        temporary.write_text(render_page(TEMPLATE, {}, values), encoding="utf-8")


def _shown(square: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(square).resize((SHOWN_PX, SHOWN_PX), Image.Resampling.BICUBIC)


def _digest(names: Sequence[str]) -> str:
    """Name the answers that a browser keeps, so that two pages do not share them."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
