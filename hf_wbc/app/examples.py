"""Example cells for visitors without an image of their own: real ones, or drawn ones for the toy.

The real cells ship in `spaces/wbc/cells`, with their attribution.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from hf_wbc.app.uploads import UploadedImage
from hf_wbc.shipped import shipped
from hf_wbc.taxonomy import NAMES, class_id

# Class proportions of a drawn slide with a left shift and some blasts.
SLIDE = {
    "neutrophil_segmented": 0.38, "lymphocyte_typical": 0.2, "neutrophil_banded": 0.14,
    "monocyte": 0.08, "eosinophil": 0.05, "metamyelocyte": 0.05, "myelocyte": 0.04,
    "myeloblast": 0.03, "basophil": 0.01, "erythroblast": 0.01, "promyelocyte": 0.01,
}  # fmt: skip
NUM_ON_SLIDE = 100
SLIDE_LABORATORY = 1


@dataclass(frozen=True)
class Example:
    """One drawn cell of a toy laboratory."""

    label: int
    laboratory: int
    index: int
    um_per_px: float

    def picture(self) -> UploadedImage:
        """Return the drawing."""
        return draw_example(self)


@dataclass(frozen=True)
class RealExample:
    """One real cell that ships with the page."""

    label: int
    um_per_px: float
    path: Path

    def picture(self) -> UploadedImage:
        """Return the decoded image."""
        from hf_wbc.data.image_io import decode_rgb

        return UploadedImage(self.path.name, decode_rgb(self.path.read_bytes(), self.path.name))


def _example(name: str, laboratory: int, um_per_px: float, index: int = 700) -> Example:
    return Example(class_id(name), laboratory, index, um_per_px)


ACEVEDO, MATEK = (0, 0.1), (1, 1 / 13.8)
EXAMPLES = (
    _example("neutrophil_segmented", *ACEVEDO),
    _example("eosinophil", *ACEVEDO),
    _example("monocyte", *MATEK),
    _example("lymphocyte_typical", *MATEK),
    _example("myeloblast", *MATEK),
    _example("metamyelocyte", *ACEVEDO),
)


CELLS = ("spaces/wbc/cells", "cells")
"""Where the cells lie: in a checkout or wheel, and in a published Space."""
ATTRIBUTION = "Acevedo et al. 2020, doi 10.1016/j.dib.2020.105474, CC BY 4.0"
"""Shown wherever the real cells are shown."""


@cache
def real_examples() -> tuple[RealExample, ...]:
    """Return the real cells that ship with the page."""
    folder = shipped(*CELLS)
    with (folder / "cells.csv").open(newline="", encoding="utf-8") as table:
        return tuple(
            RealExample(class_id(row["class"]), float(row["um_per_px"]), folder / row["file"])
            for row in csv.DictReader(table)
        )


def examples_for(is_toy: bool) -> tuple[Example, ...] | tuple[RealExample, ...]:
    """Return drawn cells for a model that has seen drawings alone, real cells for others."""
    return EXAMPLES if is_toy else real_examples()[:10]


@cache
def draw_example(example: Example) -> UploadedImage:
    """Draw an example; archives of `hf-wbc toy` do not contain it."""
    from hf_wbc.toy.archives import LABORATORIES, draw_image

    name = NAMES[example.label]
    pixels = draw_image(LABORATORIES[example.laboratory], name, example.index)
    return UploadedImage(f"drawn_{name}_{example.index}.png", pixels)


@cache
def draw_slide(seed: int = 0) -> tuple[tuple[UploadedImage, ...], float]:
    """Draw the cells of a slide in random order; returns them and their um per pixel."""
    rng = np.random.default_rng(seed)
    labels = [
        class_id(name) for name, share in SLIDE.items() for _ in range(round(share * NUM_ON_SLIDE))
    ]
    examples = [
        Example(int(label), SLIDE_LABORATORY, 800 + number, MATEK[1])
        for number, label in enumerate(rng.permutation(labels))
    ]
    pictures = (draw_example(example) for example in examples)
    # Like the name of a real image, the number does not reveal the class.
    return tuple(
        UploadedImage(f"drawn_{number:03d}.png", picture.pixels)
        for number, picture in enumerate(pictures, 1)
    ), MATEK[1]
