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
    words: str = ""
    """The class in a hematologist's words, where they differ from the name."""

    @property
    def clinical_name(self) -> str:
        """The class in a hematologist's words, such as `band neutrophil`."""
        return self.words or self.name

    @property
    def is_white(self) -> bool:
        """Whether the class is part of the differential of white cells."""
        return self.lineage != "erythroid"


CLASSES = (
    CellClass("basophil", "granulocytic"),
    CellClass("eosinophil", "granulocytic"),
    CellClass("erythroblast", "erythroid", words="erythroblast (nRBC)"),
    CellClass("myeloblast", "granulocytic", 1, "blast (myeloblast)"),
    CellClass("promyelocyte", "granulocytic", 2),
    CellClass("myelocyte", "granulocytic", 3),
    CellClass("metamyelocyte", "granulocytic", 4),
    CellClass("neutrophil_banded", "granulocytic", 5, "band neutrophil"),
    CellClass("neutrophil_segmented", "granulocytic", 6, "segmented neutrophil"),
    CellClass("monocyte", "monocytic"),
    CellClass("lymphocyte_typical", "lymphoid", words="lymphocyte"),
)
"""All classes, in the order of their ids."""
NAMES = tuple(cell.name for cell in CLASSES)
"""Names of the classes, in the order of their ids."""
NUM_CLASSES = len(CLASSES)
ERYTHROBLAST = NAMES.index("erythroblast")
"""Id of the nucleated red cell, which is reported per 100 white cells."""
CLINICAL_ORDER = tuple(
    NAMES.index(name)
    for name in (
        "neutrophil_segmented",
        "neutrophil_banded",
        "lymphocyte_typical",
        "monocyte",
        "eosinophil",
        "basophil",
        "metamyelocyte",
        "myelocyte",
        "promyelocyte",
        "myeloblast",
        "erythroblast",
    )
)
"""Class ids in the order of a differential count; nucleated red cells stand apart, at the end."""


class Relation(IntEnum):
    """Distance of a predicted class from the true class; higher is a more serious confusion."""

    SAME = 0
    ONE_STEP = 1
    SAME_LINEAGE = 2
    CROSS_LINEAGE = 3


class Consequence(IntEnum):
    """What a confusion costs a patient; higher is worse."""

    NONE = 0
    MINOR = 1
    """Another stage or class that changes no decision, such as band for segmented."""
    SERIOUS = 2
    """A false alarm of blasts, another lineage, or a white cell taken for a red precursor."""
    CRITICAL = 3
    """A blast or promyelocyte that is taken for a mature or maturing cell."""


HARM = {
    Consequence.NONE: 0,
    Consequence.MINOR: 1,
    Consequence.SERIOUS: 4,
    Consequence.CRITICAL: 16,
}
"""Weight of each consequence where errors are ranked: a convention of this project."""
BLAST_EQUIVALENTS = (NAMES.index("myeloblast"), NAMES.index("promyelocyte"))
"""Class ids of blasts, and of promyelocytes, which stand for blasts in promyelocytic leukemia."""


def consequence(true: int, predicted: int) -> Consequence:
    """Return how much it costs a patient that a cell of one class is taken for another.

    Unlike `relation`, it is not symmetric: to miss a blast is worse than to suspect one.

    Args:
        true: Id of the true class.
        predicted: Id of the predicted class.

    Examples:
        >>> blast, lymphocyte = class_id("myeloblast"), class_id("lymphocyte_typical")
        >>> consequence(blast, lymphocyte).name, consequence(lymphocyte, blast).name
        ('CRITICAL', 'SERIOUS')
    """
    if true == predicted:
        return Consequence.NONE
    was, is_called = true in BLAST_EQUIVALENTS, predicted in BLAST_EQUIVALENTS
    if was and not is_called:
        return Consequence.CRITICAL
    if is_called and not was:
        return Consequence.SERIOUS
    is_far = relation(true, predicted) is Relation.CROSS_LINEAGE
    return Consequence.SERIOUS if is_far else Consequence.MINOR


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
