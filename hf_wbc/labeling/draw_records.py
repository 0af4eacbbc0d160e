"""The file of simulated labelings: a CSV with a line for each draw, which tables are made from.

    model,laboratory,num_cells,seed,strategy,head,budget,macro_f1,...
    e4f4b128c5ec,tecom_jiangxi,299,0,random,logistic,50,0.8257,...

A simulation appends to it and skips draws that it already has, so that an interrupted one resumes.
"""

import io
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from hf_wbc.escape import text_read_back, write_csv
from hf_wbc.file_lock import exclusive_lock
from hf_wbc.labeling.simulate import Draw
from hf_wbc.records import atomic_replace
from hf_wbc.text import csv_rows

__all__ = ["append_draw", "read_draws", "write_draws"]

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
            values = {column: _value(column, row[column]) for column in _COLUMNS}
            found.append(Draw(cells=values["laboratory"], **values))
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}; remove the line") from error
    return found


def append_draw(path: Path, draw: Draw) -> None:
    """Add a draw to the file at once; other processes may add theirs at the same time."""
    with exclusive_lock(path.with_name(f".{path.name}.lock"), "", on_wait=lambda: None):
        current = read_draws(path)
        if all(each.key != draw.key for each in current):
            write_draws(path, [*current, draw])


def write_draws(path: Path, draws: Sequence[Draw]) -> None:
    """Replace the file by these draws, in their order."""
    text = io.StringIO()
    rows = ([_text(getattr(draw, column)) for column in _COLUMNS] for draw in draws)
    write_csv(text, _COLUMNS, rows)
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
        return text_read_back(text)
    if column in _INTEGERS:
        return int(text)
    if column == "is_adapted":
        return bool(int(text))
    return float(text) if text else None
