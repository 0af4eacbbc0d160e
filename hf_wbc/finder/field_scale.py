"""Measure a field before it is searched: its scale from the red cells, and its identity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from hf_wbc.data.red_cells import red_cell_diameters
from hf_wbc.data.scale import (
    DEFAULT_UM_PER_PX,
    ScaleEstimate,
    scale_from_red_cells,
)
from hf_wbc.finder.field_source import FieldSource
from hf_wbc.text import shorten_list

OTHER_SCALE = 1.25
"""Ratio of the scale of a field's own red cells to that of all fields from which it is named."""
ENOUGH_IN_FIELD = 8
"""Number of red cells in a field from which its own scale is trusted that far."""
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
    pixel_sha256: str | None = None
    fault: str = ""
    """Why it cannot be used; empty if it can."""

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` wrote."""
        return cls(**{**facts, "diameters": tuple(facts["diameters"])})


def measure_field(source: FieldSource) -> Measured:
    """Measure the red cells of a field, or of the middle of a slide."""
    height, width = source.height, source.width
    if source.is_slide:
        top, left = max(0, height // 2 - SLIDE_PX // 2), max(0, width // 2 - SLIDE_PX // 2)
        pixels = source.read(top, left, min(top + SLIDE_PX, height), min(left + SLIDE_PX, width))
    else:
        pixels = source.read(0, 0, height, width)
    return Measured(
        source.name,
        width,
        height,
        tuple(red_cell_diameters(np.ascontiguousarray(pixels))),
        source.um_per_px,
        source.pixel_sha256,
    )


def pooled_scale(measured: Sequence[Measured]) -> ScaleEstimate:
    """Estimate one scale from the red cells of all fields.

    Raises:
        ValueError: If there are too few red cells.
    """
    found = scale_from_red_cells([d for each in measured for d in each.diameters])
    if found is None:
        raise ValueError(
            f"the scale cannot be estimated: {shorten_list([each.name for each in measured], 3)} "
            "show too few whole red cells (out of focus, too crowded, or no smear?); pass "
            f"--um-per-px, about {DEFAULT_UM_PER_PX} with a 100x objective"
        )
    return ScaleEstimate(found[0], "red cells", found[1])


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
        f"scale: {shorten_list(other)}. Search fields of one microscope at a time."
    ]
