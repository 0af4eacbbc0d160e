"""Parse the scale field: a known laboratory, a microscope preset, or a number."""

import math
import re
from collections.abc import Mapping

GUESS = "Estimate it from the cells"
# Camera pixel size divided by the magnification, without another lens in between.
OPTICS: Mapping[str, float] = {
    "100x objective, camera pixels of 3.45 um": 0.0345,
    "100x objective, camera pixels of 5.5 um": 0.055,
    "100x objective, camera pixels of 6.45 um": 0.0645,
    "63x objective, camera pixels of 3.45 um": 3.45 / 63,
    "50x objective, camera pixels of 5.5 um": 0.11,
    "40x slide scanner, 0.25 um per pixel": 0.25,
}
_UNIT = re.compile(r"\s*[uµμ]m(\s*(/|per)\s*(px|pixel))?\s*$", re.IGNORECASE)
SMALLEST_UM_PER_PX, LARGEST_UM_PER_PX = 0.01, 1.0
"""Accepted range. Light microscopy resolves nothing finer than the lower end, where 25 um are
2,500 px; much smaller values would fill the server's memory."""


def choices(laboratories: Mapping[str, float]) -> list[str]:
    """The presets: estimate, laboratories with their scales, and microscopes."""
    known = [f"{name}, {scale:.4g} um per pixel" for name, scale in laboratories.items()]
    return [GUESS, *known, *OPTICS]


def parse_scale(value: str | float | None, laboratories: Mapping[str, float]) -> float | None:
    """Parse um per pixel; None means that the scale has to be estimated.

    Args:
        value: One of `choices`, a laboratory's name, or a number with a point or a comma.
        laboratories: um per pixel by laboratory.

    Raises:
        ValueError: For anything else.

    >>> parse_scale("0,09", {}), parse_scale("", {}), parse_scale("matek_19", {"matek_19": 0.0725})
    (0.09, None, 0.0725)
    >>> parse_scale("0.1 µm/px", {}), parse_scale("0.09 um", {})
    (0.1, 0.09)
    """
    text = "" if value is None else str(value).strip()
    if text in ("", GUESS):
        return None
    if text in OPTICS:
        return OPTICS[text]
    name = text.partition(",")[0]
    if name in laboratories:
        return laboratories[name]
    number = _UNIT.sub("", text)
    try:
        scale = float(number.replace(",", "."))
    except ValueError:
        raise ValueError(
            f"the scale {text!r} is not a number; type um per pixel, such as 0.1, or choose a "
            "preset"
        ) from None
    if not (math.isfinite(scale) and SMALLEST_UM_PER_PX <= scale <= LARGEST_UM_PER_PX):
        raise ValueError(
            f"the scale {text} um per pixel is impossible; with a 100x objective it is about 0.1"
        )
    return scale
