"""The scale of a picture as a person says it: of a known laboratory, of optics, or typed."""

import math
import re
from collections.abc import Mapping

GUESS = "Guess it from the cells"
# A camera's pixel over the objective's magnification, where no other lens stands between.
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
"""Light shows nothing finer than the first, at which 25 um are 2,500 px already; at a hundredth of
it their pixels would fill a server's memory."""


def choices(laboratories: Mapping[str, float]) -> list[str]:
    """What a person may choose from: the guess, laboratories by name with their scales, optics."""
    known = [f"{name}, {scale:.4g} um per pixel" for name, scale in laboratories.items()]
    return [GUESS, *known, *OPTICS]


def parse_scale(said: str | float | None, laboratories: Mapping[str, float]) -> float | None:
    """um per pixel; None where it is to be guessed.

    `said` is one of `choices`, a laboratory's name, or a number with a point or a comma.
    ValueError for anything else.

    >>> parse_scale("0,09", {}), parse_scale("", {}), parse_scale("matek_19", {"matek_19": 0.0725})
    (0.09, None, 0.0725)
    >>> parse_scale("0.1 µm/px", {}), parse_scale("0.09 um", {})
    (0.1, 0.09)
    """
    text = "" if said is None else str(said).strip()
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
            f"the scale {text!r} is no number; type um per pixel, such as 0.1, or choose one"
        ) from None
    if not (math.isfinite(scale) and SMALLEST_UM_PER_PX <= scale <= LARGEST_UM_PER_PX):
        raise ValueError(
            f"the scale {text} um per pixel cannot be; at a microscope's 100x it is about 0.1"
        )
    return scale
