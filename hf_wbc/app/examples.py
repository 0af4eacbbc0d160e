"""Drawn example cells, for visitors without an image of their own."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from hf_wbc.app.uploads import UploadedImage
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
