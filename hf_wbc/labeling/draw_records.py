"""The file of simulated labelings: a CSV with a line for each draw, which tables are made from.

    model,laboratory,num_cells,seed,strategy,head,budget,macro_f1,...
    e4f4b128c5ec,tecom_jiangxi,299,0,random,logistic,50,0.8257,...

A simulation appends to it and skips draws that it already has, so that an interrupted one resumes.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hf_wbc.labeling.simulate import Draw
from hf_wbc.records import atomic_replace
from hf_wbc.text import csv_rows

__all__ = ["read_draws", "write_draws"]

_COLUMNS = tuple(field.name for field in fields(Draw) if field.name != "cells")
_INTEGERS = ("num_cells", "seed", "budget")
_TEXTS = ("model", "laboratory", "strategy", "head")
_DECIMALS = 4


def read_draws(path: Path) -> list[Draw]:
    """Read the draws of a file; none if there is no file.

    Raises:
        ValueError: If the file is damaged; names the line.
    """
    if not path.exists():
        return []
    found = []
    for line, row in csv_rows(path.read_bytes(), str(path), _COLUMNS):
        try:
            found.append(Draw(cells=row["laboratory"], **{c: _value(c, row[c]) for c in _COLUMNS}))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}; remove the line") from error
    return found


def write_draws(path: Path, draws: Sequence[Draw]) -> None:
    """Replace the file by these draws, in their order."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerows([_text(getattr(draw, column)) for column in _COLUMNS] for draw in draws)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.{_DECIMALS}f}" if isinstance(value, float) else str(value)


def _value(column: str, text: str) -> Any:
    if column in _TEXTS:
        return text
    if column in _INTEGERS:
        return int(text)
    if column == "is_adapted":
        return bool(int(text))
    return float(text) if text else None
