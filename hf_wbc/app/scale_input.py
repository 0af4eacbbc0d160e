"""Parse the scale field, a number with a unit, and list the presets that fill it."""

import math
import re
from collections.abc import Mapping

# Camera pixel size divided by the magnification, without another lens in between.
OPTICS: Mapping[str, float] = {
    "100x objective, camera pixels of 3.45 µm": 0.0345,
    "100x objective, camera pixels of 5.5 µm": 0.055,
    "100x objective, camera pixels of 6.45 µm": 0.0645,
    "63x objective, camera pixels of 3.45 µm": 3.45 / 63,
    "50x objective, camera pixels of 5.5 µm": 0.11,
    "40x slide scanner": 0.25,
}
ESTIMATE = "Estimate it from the cells"
_UM = re.compile(r"\s*[uµμ]m(\s*(/|per)\s*(px|pixel))?\s*$", re.IGNORECASE)
_PX = re.compile(r"\s*(px|pixels?)\s*(/|per)\s*[uµμ]m\s*$", re.IGNORECASE)
SMALLEST_UM_PER_PX, LARGEST_UM_PER_PX = 0.01, 1.0
"""Accepted range. Light microscopy resolves nothing finer than the lower end, where 25 um are
2,500 px; much smaller values would fill the server's memory."""


def presets(laboratories: Mapping[str, float]) -> list[tuple[str, str]]:
    """The presets as (name, text for the scale field): estimate, laboratories, microscopes."""
    known = {**laboratories, **OPTICS}
    texts = {name: f"{scale:.4g} µm/px" for name, scale in known.items()}
    return [(ESTIMATE, ""), *((f"{name}: {text}", text) for name, text in texts.items())]


def parse_scale(value: str | float | None, laboratories: Mapping[str, float]) -> float | None:
    """Parse um per pixel; None means that the scale has to be estimated.

    Args:
        value: A number with a point or a comma, in um per pixel unless it ends in `px/um`; or a
            laboratory's full name, for programs.
        laboratories: um per pixel by laboratory.

    Raises:
        ValueError: For anything else.

    >>> parse_scale("0,09", {}), parse_scale("", {}), parse_scale("matek_19", {"matek_19": 0.0725})
    (0.09, None, 0.0725)
    >>> parse_scale("0.1 µm/px", {}), parse_scale("0.09 um", {}), parse_scale("8 px/µm", {})
    (0.1, 0.09, 0.125)
    """
    text = "" if value is None else str(value).strip()
    if not text:
        return None
    if text in laboratories:
        return laboratories[text]
    is_inverse = bool(_PX.search(text))
    number = (_PX if is_inverse else _UM).sub("", text)
    try:
        scale = float(number.replace(",", "."))
    except ValueError:
        raise ValueError(
            f"the scale {text!r} is not a number; type um per pixel, such as 0.1, or choose a "
            "preset"
        ) from None
    if is_inverse and scale:
        scale = 1 / scale
    if not (math.isfinite(scale) and SMALLEST_UM_PER_PX <= scale <= LARGEST_UM_PER_PX):
        raise ValueError(
            f"the scale {scale:g} um per pixel is impossible; with a 100x objective it is about 0.1"
        )
    return scale
