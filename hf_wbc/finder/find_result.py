"""What the finder returns for a folder of fields, and the tables that it writes."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from hf_wbc.escape import write_csv
from hf_wbc.finder.detect_cells import FoundCell

CELL_COLUMNS = (
    "cell", "field", "x_px", "y_px", "nucleus_um", "um_per_px", "score", "predicted", "probability",
    "rejected", "outlier", "flags",
)  # fmt: skip
FIELD_COLUMNS = ("field", "width_px", "height_px", "num_cells", "notes")


class CellLabel(NamedTuple):
    """What a model says of a crop."""

    name: str
    """Class."""
    probability: float
    is_rejected: bool
    """Whether the crop is unlike all training cells, or an outlier that the model was shown."""
    outlier: str = ""
    """Kind of outlier that it looks like, such as `platelet`."""


@dataclass(frozen=True)
class FoundField:
    """The cells of a field."""

    name: str
    width: int
    height: int
    cells: tuple[FoundCell, ...]
    notes: tuple[str, ...]
    um_per_px: float

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` wrote."""
        cells = tuple(map(FoundCell.from_dict, facts["cells"]))
        return cls(**{**facts, "cells": cells, "notes": tuple(facts["notes"])})


@dataclass(frozen=True)
class FindResult:
    """What was found in a folder of fields."""

    out: Path
    fields: tuple[FoundField, ...]
    labels: Mapping[str, CellLabel]
    """Class of each crop; empty without a model."""
    notes: tuple[str, ...]
    """What a person should know: scale, duplicates, fields that were left out."""

    @property
    def num_cells(self) -> int:
        """Number of cells in all fields."""
        return sum(len(field.cells) for field in self.fields)


def write_tables(folder: Path, result: FindResult, plan: str, model: str) -> None:
    """Write cells.csv, fields.csv and find.json.

    Args:
        folder: An existing folder.
        result: What was found.
        plan: Digest of everything that determines the result.
        model: The model that classified the cells; empty without one.
    """
    with (folder / "cells.csv").open("w", encoding="utf-8", newline="") as file:
        write_csv(file, CELL_COLUMNS, _cell_rows(result))
    with (folder / "fields.csv").open("w", encoding="utf-8", newline="") as file:
        rows = [
            (f.name, f.width, f.height, len(f.cells), "; ".join(f.notes)) for f in result.fields
        ]
        write_csv(file, FIELD_COLUMNS, rows)
    facts = {
        "plan": plan,
        "num_fields": len(result.fields),
        "num_cells": result.num_cells,
        "scales": sorted({field.um_per_px for field in result.fields}),
        "model": model or None,
        "notes": list(result.notes),
    }
    text = json.dumps(facts, indent=2, ensure_ascii=False)
    (folder / "find.json").write_text(text + "\n", encoding="utf-8")


def _cell_rows(result: FindResult) -> Iterator[Sequence[object]]:
    for field in result.fields:
        for number, cell in enumerate(field.cells, 1):
            crop = f"{field.name}/{number:04}.png"
            label = result.labels.get(crop)
            said: tuple[object, ...] = ("", "", "", "")
            if label is not None:
                said = (label.name, round(label.probability, 6), label.is_rejected, label.outlier)
            yield (
                f"crops/{crop}", field.name, round(cell.x_px, 1), round(cell.y_px, 1),
                round(cell.nucleus_um, 2), f"{field.um_per_px:.6g}", round(cell.score, 4), *said,
                ";".join(cell.flags),
            )  # fmt: skip
