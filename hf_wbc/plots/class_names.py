"""How classes are named, ordered and coloured wherever a person reads them."""

from collections.abc import Sequence

from hf_wbc.taxonomy import CLASSES

# Okabe & Ito's colours.
LINEAGES = {
    "granulocytic": "#009E73",
    "monocytic": "#E69F00",
    "erythroid": "#D55E00",
    "lymphoid": "#56B4E9",
}


def lineage_order(names: Sequence[str]) -> list[int]:
    """Indices of class names by lineage, the neutrophil line by stage, so that neighbours touch."""
    cells = {cell.name: cell for cell in CLASSES}

    def key(index: int) -> tuple[int, int]:
        cell = cells[names[index]]
        return list(LINEAGES).index(cell.lineage), cell.maturation or 0

    return sorted(range(len(names)), key=key)


def lineage_runs(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """(lineage, first, last) of class names in lineage order."""
    lineages = {cell.name: cell.lineage for cell in CLASSES}
    mine = [lineages[name] for name in names]
    return [
        (lineage, mine.index(lineage), mine.index(lineage) + mine.count(lineage) - 1)
        for lineage in LINEAGES
        if lineage in mine
    ]


def shown(name: str) -> str:
    """A class name as it is written in a picture: `neutrophil, banded`."""
    return name.replace("_", ", ", 1)
