"""How classes are named, ordered and colored wherever a person reads them."""

from collections.abc import Sequence

from hf_wbc.taxonomy import CLASSES

LINEAGES = {
    "granulocytic": "#009E73",
    "monocytic": "#E69F00",
    "erythroid": "#D55E00",
    "lymphoid": "#56B4E9",
}
"""Lineages in displayed order, with colors that color-blind readers can tell apart (Okabe &
Ito)."""


def lineage_order(names: Sequence[str]) -> list[int]:
    """Return indices that sort class names by lineage, and within a lineage by maturation."""
    cells = {cell.name: cell for cell in CLASSES}

    def key(index: int) -> tuple[int, int]:
        cell = cells[names[index]]
        return list(LINEAGES).index(cell.lineage), cell.maturation or 0

    return sorted(range(len(names)), key=key)


def lineage_runs(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return (lineage, first index, last index) for class names in lineage order."""
    lineages = {cell.name: cell.lineage for cell in CLASSES}
    mine = [lineages[name] for name in names]
    return [
        (lineage, mine.index(lineage), mine.index(lineage) + mine.count(lineage) - 1)
        for lineage in LINEAGES
        if lineage in mine
    ]


def display_name(name: str) -> str:
    """Return a class name in a hematologist's words: `band neutrophil`."""
    return _WORDS.get(name, name.replace("_", " "))


def wrapped_name(name: str) -> str:
    """Return the displayed name of a class on two lines if it has two words."""
    return display_name(name).replace(" ", "\n", 1)


_WORDS = {cell.name: cell.clinical_name for cell in CLASSES}
