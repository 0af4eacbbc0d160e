"""Measure a field before it is searched: its scale from the red cells, and its identity."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.red_cells import red_cell_diameters
from hf_wbc.data.scale import (
    DEFAULT_UM_PER_PX,
    NUCLEUS_UM,
    ScaleEstimate,
    scale_from_diameters,
    scale_from_red_cells,
)
from hf_wbc.finder.detect_cells import find_cells
from hf_wbc.finder.field_source import FieldSource
from hf_wbc.text import shorten_list

OTHER_SCALE = 1.25
"""Ratio of the scale of a field's own red cells to that of all fields from which it is named."""
ENOUGH_IN_FIELD = 8
"""Number of red cells in a field from which its own scale is trusted that far."""
GUESSES = (0.05, 0.1, 0.2)
"""Scales in um per pixel at which nuclei are searched as long as the scale is unknown."""
SLIDE_PX = 2000
"""Side in pixels of the middle of a slide in which red cells are measured."""


@dataclass(frozen=True)
class Measured:
    """What is known of a field before it is searched."""

    name: str
    width: int = 0
    height: int = 0
    diameters: tuple[float, ...] = ()
    """Diameters of its round red cells in pixels."""
    um_per_px: float | None = None
    """Scale that a slide states."""
    digest: str | None = None
    """Tells whether two are the same, see `FieldSource.digest`."""
    is_slide: bool = False
    fault: str = ""
    """Why it cannot be used; empty if it can."""

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` wrote."""
        return cls(**{**facts, "diameters": tuple(facts["diameters"])})


def measured_part(source: FieldSource) -> NDArray[np.uint8]:
    """Read a field (H, W, 3), or the middle of a slide, to measure the cells in it."""
    height, width = source.height, source.width
    top = left = 0
    if source.is_slide:
        top, left = max(0, height // 2 - SLIDE_PX // 2), max(0, width // 2 - SLIDE_PX // 2)
        height, width = min(top + SLIDE_PX, height), min(left + SLIDE_PX, width)
    return np.ascontiguousarray(source.read(top, left, height, width))


def measure_field(source: FieldSource) -> Measured:
    """Measure the red cells of a field, or of the middle of a slide."""
    diameters = tuple(red_cell_diameters(measured_part(source)))
    return Measured(
        source.name, source.width, source.height, diameters, source.um_per_px, source.digest,
        source.is_slide,
    )  # fmt: skip


def pooled_scale(measured: Sequence[Measured]) -> ScaleEstimate | None:
    """Estimate one scale from the red cells of all fields; None if there are too few."""
    found = scale_from_red_cells([d for each in measured for d in each.diameters])
    return None if found is None else ScaleEstimate(found[0], "red cells", found[1])


def scale_from_field_nuclei(fields: Iterable[NDArray[np.uint8]]) -> float | None:
    """Estimate the scale in um per pixel from the nuclei of white cells in fields of view.

    Nuclei are searched at a scale, so it is first guessed, and then searched again at the scale of
    the guess under which most nuclei look like those of white cells.

    Args:
        fields: Fields (H, W, 3) that were imaged by the same microscope.

    Returns:
        The scale at which the median nucleus has the typical size; None without a nucleus, or if
        the scale is implausible for a smear microscope.
    """
    diameters = []
    for pixels in fields:
        guesses = [find_cells(pixels, um_per_px) for um_per_px in GUESSES]
        best = max(range(len(GUESSES)), key=lambda n: sum(cell.score for cell in guesses[n]))
        if not guesses[best]:
            continue
        diameter_um = float(np.median([cell.nucleus_um for cell in guesses[best]]))
        um_per_px = GUESSES[best] * NUCLEUS_UM / diameter_um
        again = find_cells(pixels, um_per_px)
        diameters += [cell.nucleus_um / um_per_px for cell in again]
    return scale_from_diameters(diameters)


def nuclei_estimate(fields: Iterable[NDArray[np.uint8]], names: Sequence[str]) -> ScaleEstimate:
    """Estimate the scale of fields without enough red cells from their nuclei.

    Args:
        fields: Fields (H, W, 3), or parts of slides.
        names: Their names, for the message.

    Raises:
        ValueError: If there is no nucleus either.
    """
    um_per_px = scale_from_field_nuclei(fields)
    if um_per_px is None:
        raise ValueError(
            f"the scale cannot be estimated: {shorten_list(list(names), 3)} show too few whole red "
            "cells and no nucleus (out of focus, or no smear?); pass --um-per-px, about "
            f"{DEFAULT_UM_PER_PX} with a 100x objective"
        )
    return ScaleEstimate(um_per_px, "nuclei", 0, um_per_px)


def scale_notes(measured: Sequence[Measured], scales: Sequence[float]) -> list[str]:
    """Name the fields whose own red cells say another scale than the one they are searched at."""
    other = []
    for each, um_per_px in zip(measured, scales, strict=True):
        own = scale_from_red_cells(each.diameters)
        if own is None or own[1] < ENOUGH_IN_FIELD:
            continue
        if not 1 / OTHER_SCALE < own[0] / um_per_px < OTHER_SCALE:
            other.append(f"{each.name} ({own[0]:.3g} instead of {um_per_px:.3g} um per pixel)")
    if not other:
        return []
    return [
        f"mixed scales? The red cells of {len(other)} of {len(measured)} fields suggest another "
        f"scale: {shorten_list(other)}. Keep the fields of different microscopes apart."
    ]
