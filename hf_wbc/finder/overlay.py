"""Draw numbered boxes around the found cells of a field."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hf_wbc.data.crop import crop_side
from hf_wbc.finder.detect_cells import FoundCell

SHOWN_UM = 14.0
"""Side of a box in um: a cell, not its 25 um crop, so that neighbors can be told apart."""
COLOR, DOUBTFUL = "#00c853", "#ffb300"
"""Color of a box, and that of a cell with a flag."""


def cell_box(cell: FoundCell, um_per_px: float) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the box that is drawn around a cell, in pixels."""
    half = max(SHOWN_UM, cell.nucleus_um + 4) / 2 / um_per_px
    return cell.x_px - half, cell.y_px - half, cell.x_px + half, cell.y_px + half


def draw_boxes(
    pixels: NDArray[np.uint8], cells: Sequence[FoundCell], um_per_px: float
) -> Image.Image:
    """Draw numbered boxes on a field.

    Args:
        pixels: The field (H, W, 3), uint8.
        cells: Its cells; the first is number 1.
        um_per_px: Scale in um per pixel.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    pen = ImageDraw.Draw(image)
    width = max(2, crop_side(um_per_px) // 90)
    font = ImageFont.load_default(max(12, crop_side(um_per_px) // 10))
    for number, cell in enumerate(cells, 1):
        color = DOUBTFUL if cell.flags else COLOR
        left, top, right, bottom = cell_box(cell, um_per_px)
        pen.rectangle((left, top, right, bottom), outline=color, width=width)
        place = (max(left, 0), max(top, 0))
        text = f" {number} "
        pen.rectangle(pen.textbbox(place, text, font=font), fill=color)
        pen.text(place, text, fill="black", font=font)
    return image
