"""The eleven classes of "Help a hematologist out!" (2022), in the order of the challenge.

The order is part of the contract: a class id in any dataset, model or table of this project is the
index into `NAMES`. `maturation` numbers the stages of neutrophil granulopoiesis, from the
myeloblast (1) to the segmented neutrophil (6). Every other class is a mature end point of its
lineage.
"""

from dataclasses import dataclass
from enum import IntEnum

from .text import did_you_mean

UNLABELED = -1
"""Class id of unlabeled cells."""


@dataclass(frozen=True)
class CellClass:
    """A class with its name, its lineage and, in the neutrophil line, its stage (1 to 6)."""

    name: str
    lineage: str
    maturation: int | None = None


CLASSES = (
    CellClass("basophil", "granulocytic"),
    CellClass("eosinophil", "granulocytic"),
    CellClass("erythroblast", "erythroid"),
    CellClass("myeloblast", "granulocytic", 1),
    CellClass("promyelocyte", "granulocytic", 2),
    CellClass("myelocyte", "granulocytic", 3),
    CellClass("metamyelocyte", "granulocytic", 4),
    CellClass("neutrophil_banded", "granulocytic", 5),
    CellClass("neutrophil_segmented", "granulocytic", 6),
    CellClass("monocyte", "monocytic"),
    CellClass("lymphocyte_typical", "lymphoid"),
)
"""All classes, in the order of their ids."""
NAMES = tuple(cell.name for cell in CLASSES)
"""Names of the classes, in the order of their ids."""
NUM_CLASSES = len(CLASSES)


class Relation(IntEnum):
    """Distance of a predicted class from the true class; higher is a more serious confusion."""

    SAME = 0
    ONE_STEP = 1
    SAME_LINEAGE = 2
    CROSS_LINEAGE = 3


def class_id(name: str) -> int:
    """Return the id of a class name.

    Raises:
        ValueError: If the name is unknown; the message suggests the most similar name.
    """
    if name in NAMES:
        return NAMES.index(name)
    raise ValueError(f"unknown class {name!r}; {did_you_mean(name, NAMES)}")


def relation(true: int, predicted: int) -> Relation:
    """Return the relation of two class ids.

    The classes are the same, one maturation step apart, in the same lineage, or in different
    lineages.

    Args:
        true: Id of the true class.
        predicted: Id of the predicted class.

    Examples:
        >>> relation(class_id("myelocyte"), class_id("metamyelocyte")).name
        'ONE_STEP'
    """
    a, b = CLASSES[true], CLASSES[predicted]
    if true == predicted:
        return Relation.SAME
    if a.maturation and b.maturation and abs(a.maturation - b.maturation) == 1:
        return Relation.ONE_STEP
    return Relation.SAME_LINEAGE if a.lineage == b.lineage else Relation.CROSS_LINEAGE
