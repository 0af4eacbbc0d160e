"""Estimate the scale of images from the cells that they show.

Red cells are the ruler of a smear: their median diameter is about 7.2 um in health, and hardly
varies among the people of one laboratory. Where too few lie free, the nuclei of the white cells
replace them, whose size depends on their class: the error is 10 to 20 % for a healthy smear, and
more where one class prevails, as in leukemia. An estimate that is implausible for a smear
microscope is discarded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hf_wbc.data.nucleus import Nucleus, find_nucleus
from hf_wbc.data.red_cells import red_cell_diameters, typical_diameter
from hf_wbc.text import plural

RED_CELL_UM = 7.2
"""Median diameter of red cells in a smear, in um."""
NUCLEUS_UM = 9.5
"""Typical diameter of a white cell's nucleus as a disc of equal area, in um.

It ranges from 8.3 (segmented neutrophils) to 12.5 (promyelocytes).
"""
FEWEST_RED_CELLS = 3
"""Number of red cells below which the nuclei are measured instead."""
ENOUGH_RED_CELLS = 30
"""Number of red cells from which an estimate counts as reliable."""
DISAGREEMENT = 1.3
"""Ratio of the estimates from red cells and from nuclei above which the two disagree."""
FINEST_UM_PER_PX, COARSEST_UM_PER_PX = 0.02, 1 / 3
"""Finest and coarsest plausible estimate of the scale, in um per pixel.

Smears are imaged at .0345 (100x, camera pixels of 3.45 um; phones are finer) to .25 (40x slide
scanners), the known laboratories at .072 to .1, and an estimate from one cell may be a third above
the truth. At .1, a platelet of 2 to 3 um would give .3 to .5.
"""
DEFAULT_UM_PER_PX = 0.1
"""Assumed scale of images without a cell to measure: that of a 100x objective with a common camera,
and of Acevedo_20."""
ScaleSource = Literal["red cells", "nuclei", "default"]


@dataclass(frozen=True)
class ScaleEstimate:
    """Scale of images from one microscope, estimated from their cells."""

    um_per_px: float
    """Scale in um per pixel."""
    source: ScaleSource
    """What was measured; `default` if nothing could be."""
    num_red_cells: int = 0
    """Number of red cells that were measured."""
    from_nuclei: float | None = None
    """Scale in um per pixel according to the nuclei; None without a nucleus of plausible size."""

    @property
    def is_contradicted(self) -> bool:
        """Whether red cells and nuclei disagree."""
        if self.source != "red cells" or self.from_nuclei is None:
            return False
        ratio = self.from_nuclei / self.um_per_px
        return not 1 / DISAGREEMENT < ratio < DISAGREEMENT

    @property
    def origin(self) -> str:
        """What the scale was taken from, as part of a sentence."""
        if self.source == "default":
            return "assumed, as there is nothing to measure"
        if self.source == "nuclei":
            return "estimated from the nuclei"
        return f"estimated from {plural(self.num_red_cells, 'red cell')}"

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was measured, and every reason to doubt it."""
        scale = f"{self.um_per_px:.3g} um per pixel"
        if self.source == "default":
            return (
                f"The scale of {scale} is only assumed: the image shows no red cell and no nucleus "
                "of a white blood cell's size. Enter the microscope's scale.",
            )
        if self.source == "nuclei":
            return (
                f"The scale is {self.origin}, {scale}: correct it if you know the microscope's. "
                "Too few whole red cells lie free to measure, and nuclei differ in size.",
            )
        found = [
            f"The scale is {self.origin} of {RED_CELL_UM} um, {scale}: correct it if "
            "you know the microscope's. Microcytosis makes it too large, macrocytosis too small."
        ]
        if self.num_red_cells < ENOUGH_RED_CELLS:
            found.append(
                f"Fewer than {ENOUGH_RED_CELLS} whole red cells lie free, so the scale is "
                "uncertain."
            )
        if self.is_contradicted:
            found.append(
                f"The nuclei suggest {self.from_nuclei:.3g} um per pixel instead: check the scale."
            )
        return tuple(found)


def scale_from_nuclei(nuclei: Sequence[Nucleus | None]) -> float | None:
    """Estimate the scale in um per pixel from nuclei that were imaged by the same microscope.

    Args:
        nuclei: The nucleus of each cell, or None for a cell without one.

    Returns:
        The scale at which the median nucleus has the typical size; None if there is no nucleus or
        the scale is implausible for a smear microscope.

    Examples:
        >>> round(scale_from_nuclei([Nucleus(x=50, y=50, area_px=np.pi * 43**2)]), 2)
        0.11
        >>> scale_from_nuclei([Nucleus(x=50, y=50, area_px=np.pi * 10**2)]) is None  # a platelet
        True
    """
    return scale_from_diameters([each.diameter_px for each in nuclei if each is not None])


def scale_from_diameters(nuclei_px: Sequence[float]) -> float | None:
    """Return the scale at which the median of nuclei has the typical size; None as above.

    Args:
        nuclei_px: Diameters of nuclei as discs of equal area, in pixels.
    """
    return _plausible(NUCLEUS_UM / float(np.median(nuclei_px))) if nuclei_px else None


def scale_from_red_cells(diameters_px: Sequence[float]) -> tuple[float, int] | None:
    """Estimate the scale from red cells that were imaged by the same microscope.

    Args:
        diameters_px: Diameters of round red cells in pixels.

    Returns:
        The scale in um per pixel and the number of red cells; None if there are fewer than
        FEWEST_RED_CELLS or the scale is implausible for a smear microscope.

    Examples:
        >>> scale_from_red_cells([72.0, 70.0, 74.0])
        (0.1, 3)
        >>> scale_from_red_cells([72.0]) is None
        True
    """
    found = typical_diameter(diameters_px)
    if found is None or found[1] < FEWEST_RED_CELLS:
        return None
    um_per_px = _plausible(RED_CELL_UM / found[0])
    return None if um_per_px is None else (um_per_px, found[1])


def estimate_scale(
    images: Sequence[NDArray[np.uint8]],
    nuclei: Sequence[Nucleus | None] | None = None,
    diameters: Sequence[Sequence[float]] | None = None,
) -> ScaleEstimate:
    """Estimate the scale of images from one microscope: from red cells, else nuclei, else assume.

    Args:
        images: Images (H, W, 3), uint8, of any size.
        nuclei: The nucleus of each image, if it has been found already.
        diameters: The red cells of each image (`red_cell_diameters`), if they have been measured.
    """
    if nuclei is None:
        nuclei = [find_nucleus(pixels) for pixels in images]
    from_nuclei = scale_from_nuclei(nuclei)
    if diameters is None:
        diameters = [red_cell_diameters(pixels) for pixels in images]
    found = scale_from_red_cells([each for some in diameters for each in some])
    if found is not None:
        return ScaleEstimate(found[0], "red cells", found[1], from_nuclei)
    if from_nuclei is not None:
        return ScaleEstimate(from_nuclei, "nuclei", 0, from_nuclei)
    return ScaleEstimate(DEFAULT_UM_PER_PX, "default")


def _plausible(um_per_px: float) -> float | None:
    return um_per_px if FINEST_UM_PER_PX <= um_per_px <= COARSEST_UM_PER_PX else None
