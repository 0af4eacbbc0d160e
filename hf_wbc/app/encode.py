"""Small pictures in a page, as its own bytes: nothing is written, nothing else is asked for."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hf_wbc.inference.cell_prediction import CellAnswer
from hf_wbc.plots.html import data_uri

WHOLE_PX, SQUARE_PX, SMALL_PX = 720, 320, 72
HEAT = (255, 106, 0)


def whole(pixels: NDArray[np.uint8]) -> str:
    """An image, no wider or higher than WHOLE_PX."""
    return _uri(Image.fromarray(pixels), WHOLE_PX)


def seen(pixels: NDArray[np.uint8], answer: CellAnswer, side_px: int = SQUARE_PX) -> str:
    """The 25 um that the model saw."""
    return _uri(_square(pixels, answer), side_px)


def small(pixels: NDArray[np.uint8], answer: CellAnswer) -> str:
    """The same, for a row of a table."""
    return _uri(_square(pixels, answer), SMALL_PX, quality=72)


def heat(pixels: NDArray[np.uint8], answer: CellAnswer, saliency: NDArray[np.float32]) -> str:
    """The same in grey, coloured where it spoke for the class; saliency (size, size) in [0, 1]."""
    side = (SQUARE_PX, SQUARE_PX)
    grey = _square(pixels, answer).convert("L").convert("RGB").resize(side)
    share = Image.fromarray((255 * 0.85 * saliency.clip(0, 1)).astype(np.uint8)).resize(side)
    return _uri(Image.composite(Image.new("RGB", side, HEAT), grey, share), SQUARE_PX)


def thumbnail(data: bytes) -> str:
    """An image file as a small picture."""
    return _uri(Image.open(io.BytesIO(data)).convert("RGB"), 2 * SMALL_PX)


def _square(pixels: NDArray[np.uint8], answer: CellAnswer) -> Image.Image:
    """The box; what lies beyond the image's edges has the colour of its corner."""
    left, top, right, bottom = answer.box
    square = Image.new("RGB", (right - left, bottom - top), tuple(int(v) for v in pixels[0, 0]))
    square.paste(Image.fromarray(pixels), (-left, -top))
    return square


def _uri(image: Image.Image, most_px: int, quality: int = 82) -> str:
    image.thumbnail((most_px, most_px), Image.Resampling.LANCZOS)
    return data_uri(image, "WEBP", quality=quality, method=2)
