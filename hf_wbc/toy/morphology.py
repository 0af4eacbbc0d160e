"""Parameters of the appearance of the eleven classes under the microscope.

Sizes are in um on a dried smear, amounts of dye relative to `Dye`; every pair is a range that is
sampled uniformly. The ranges of adjacent stages of maturation meet, as in reality.
"""

from dataclasses import dataclass

from hf_wbc.taxonomy import NAMES
from hf_wbc.toy.canvas import Dye

Range = tuple[float, float]


@dataclass(frozen=True)
class Chromatin:
    """Texture of the nucleus."""

    density: Range
    contrast: float
    """Fraction of the dye that is missing in the light gaps between clumps."""
    grain_um: float
    """Size of the clumps."""


@dataclass(frozen=True)
class Granules:
    """Granules of the cytoplasm."""

    dye: Dye
    per_um2: Range
    size_um: float
    amount: float
    over_nucleus: float = 0.0
    """Fraction of the granules that are also over the nucleus."""


@dataclass(frozen=True)
class CellMorphology:
    """Appearance of the cells of a class."""

    diameter_um: Range
    nucleus: str
    """A key of `hf_wbc.toy.drawing.SHAPES`."""
    size: Range
    """Size of the nucleus in units of the cell's radius."""
    offset: Range
    """Distance of the nucleus from the cell's center, in the same units."""
    chromatin: Chromatin
    basophilia: Range
    acidophilia: Range
    granules: tuple[Granules, ...] = ()
    nucleoli: tuple[int, int] = (0, 0)
    irregularity: float = 0.015
    """Relative amplitude of the waves of the cell's outline."""
    hof: float = 0.0
    """How much paler the cytoplasm is beside the nucleus."""
    vacuoles: tuple[int, int] = (0, 0)
    fold_um: float = 0.1
    """Irregularity of the outline of the nucleus."""
    ruffle_um: float = 0.05
    """Irregularity of the outline of the cell."""


FINE = Granules(Dye.AZUROPHILIA, (1.0, 2.2), 0.25, 0.16)

MORPHOLOGY: dict[str, CellMorphology] = {
    "basophil": CellMorphology(
        (11.5, 14.5), "folded", (0.72, 0.85), (0.0, 0.12),
        Chromatin((0.6, 0.85), 0.3, 1.4), (0.15, 0.4), (0.5, 1.0),
        (Granules(Dye.CHROMATIN, (1.6, 2.8), 0.6, 0.7, 0.8),
         Granules(Dye.AZUROPHILIA, (1.0, 2.0), 0.5, 0.6, 0.6)),
        irregularity=0.025, fold_um=0.25,
    ),
    "eosinophil": CellMorphology(
        (12.5, 16.0), "bilobed", (0.56, 0.66), (0.05, 0.25),
        Chromatin((0.85, 1.1), 0.4, 1.3), (0.15, 0.5), (0.3, 0.6),
        (Granules(Dye.EOSIN, (4.2, 6.0), 0.5, 0.85),),
        irregularity=0.02, fold_um=0.12,
    ),
    "erythroblast": CellMorphology(
        (8.5, 12.5), "round", (0.5, 0.68), (0.0, 0.2),
        Chromatin((1.0, 1.4), 0.22, 1.3), (0.4, 1.2), (0.2, 1.4),
        irregularity=0.025, hof=0.15,
    ),
    "myeloblast": CellMorphology(
        (12.5, 17.0), "round", (0.78, 0.88), (0.05, 0.16),
        Chromatin((0.6, 0.85), 0.2, 0.7), (0.9, 1.5), (0.0, 0.2),
        nucleoli=(1, 4), irregularity=0.035, hof=0.2, fold_um=0.3,
    ),
    "promyelocyte": CellMorphology(
        (15.5, 20.5), "round", (0.64, 0.74), (0.14, 0.28),
        Chromatin((0.65, 0.9), 0.3, 0.8), (0.7, 1.2), (0.1, 0.4),
        (Granules(Dye.AZUROPHILIA, (1.6, 3.2), 0.42, 0.6, 0.35),),
        nucleoli=(0, 2), irregularity=0.04, hof=0.4, fold_um=0.25,
    ),
    "myelocyte": CellMorphology(
        (13.0, 17.0), "oval", (0.64, 0.74), (0.16, 0.3),
        Chromatin((0.8, 1.05), 0.4, 1.0), (0.45, 0.85), (0.3, 0.7),
        (Granules(Dye.AZUROPHILIA, (1.2, 2.6), 0.32, 0.35, 0.1),),
        irregularity=0.025, hof=0.25, fold_um=0.18,
    ),
    "metamyelocyte": CellMorphology(
        (12.5, 16.0), "kidney", (0.66, 0.78), (0.05, 0.2),
        Chromatin((0.85, 1.1), 0.42, 1.1), (0.2, 0.5), (0.6, 1.1),
        (Granules(Dye.AZUROPHILIA, (1.2, 2.4), 0.28, 0.24),),
        irregularity=0.02, fold_um=0.18,
    ),
    "neutrophil_banded": CellMorphology(
        (11.5, 15.0), "band", (0.54, 0.66), (0.0, 0.15),
        Chromatin((0.95, 1.2), 0.4, 1.2), (0.0, 0.15), (0.7, 1.2), (FINE,),
        irregularity=0.02, fold_um=0.12,
    ),
    "neutrophil_segmented": CellMorphology(
        (11.5, 15.0), "segments", (0.5, 0.6), (0.0, 0.12),
        Chromatin((1.0, 1.25), 0.4, 1.2), (0.0, 0.1), (0.7, 1.2), (FINE,),
        irregularity=0.02, fold_um=0.1,
    ),
    "monocyte": CellMorphology(
        (14.5, 19.0), "folded", (0.66, 0.8), (0.05, 0.18),
        Chromatin((0.65, 0.9), 0.42, 0.9), (0.6, 1.0), (0.1, 0.4),
        (Granules(Dye.AZUROPHILIA, (0.6, 1.6), 0.22, 0.2),),
        irregularity=0.035, vacuoles=(0, 6), fold_um=0.35,
    ),
    "lymphocyte_typical": CellMorphology(
        (8.8, 11.8), "round", (0.82, 0.93), (0.02, 0.12),
        Chromatin((0.95, 1.25), 0.35, 1.7), (0.8, 1.5), (0.0, 0.1),
        irregularity=0.025, fold_um=0.15,
    ),
}  # fmt: skip
assert tuple(MORPHOLOGY) == NAMES
