"""Toy archives: drawn cells of all eleven classes from three laboratories that are unlike."""

from hf_wbc.data.toy.archives import draw_archives, draw_image
from hf_wbc.data.toy.drawing import Cell, draw_cell
from hf_wbc.data.toy.laboratories import LABORATORIES, Laboratory

__all__ = ["LABORATORIES", "Cell", "Laboratory", "draw_archives", "draw_cell", "draw_image"]
