"""Limits of the flags of a differential count and reference ranges, read from a TOML file.

The defaults, with their sources, are in `smear_limits.toml`. A laboratory's own file replaces the
limits and the ranges that it names.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_wbc.taxonomy import NAMES
from hf_wbc.text import did_you_mean

__all__ = ["Limit", "ReferenceRange", "SmearLimits", "load_limits", "load_ranges"]

DEFAULTS = Path(__file__).with_name("smear_limits.toml")
RANGES = "ranges"


@dataclass(frozen=True)
class Limit:
    """Share above which a flag is raised."""

    above: float
    """Percent of the white cells, in [0, 100]; of nucleated red cells, number per 100 of them."""
    source: str = ""
    """Where the limit comes from."""


SmearLimits = Mapping[str, Limit]


@dataclass(frozen=True)
class ReferenceRange:
    """What is usual in healthy adults."""

    low: float
    high: float
    """Percent of the white cells, in [0, 100]."""
    source: str = ""


def load_limits(path: Path | None = None) -> SmearLimits:
    """Return the limit of each flag: the defaults, with those of a file in their place.

    Args:
        path: TOML file with a table per flag, each with `above` and, optionally, `source`.

    Raises:
        ValueError: If the file cannot be read, or a limit is unknown or not a percentage.

    Examples:
        >>> load_limits()["left_shift"].above
        10.0
    """
    limits = _read(DEFAULTS, None)
    return limits if path is None else {**limits, **_read(path, limits)}


def load_ranges(path: Path | None = None) -> Mapping[str, ReferenceRange]:
    """Return the reference range of each class that has one, by name of the class.

    Args:
        path: TOML file with a table `ranges.CLASS` per class, each with `low`, `high` and,
            optionally, `source`. Classes that it does not name keep their defaults.

    Raises:
        ValueError: If the file cannot be read, or a range is unknown or not in percent.

    Examples:
        >>> load_ranges()["eosinophil"].high
        6.0
    """
    ranges = _ranges(DEFAULTS)
    return ranges if path is None else {**ranges, **_ranges(path)}


def _ranges(path: Path) -> dict[str, ReferenceRange]:
    found = {}
    tables = _tables(path).get(RANGES, {})
    for name, table in tables.items() if isinstance(tables, dict) else ():
        if name not in NAMES:
            raise ValueError(f"{path}: unknown class {name!r}; {did_you_mean(name, NAMES)}")
        values = table if isinstance(table, dict) else {}
        low: Any = values.get("low")
        high: Any = values.get("high")
        source = values.get("source", f"set in {path.name}")
        if set(values) - {"low", "high", "source"} or not isinstance(source, str):
            raise ValueError(f"{path}: the range of {name} has `low`, `high` and `source` only")
        if not (_is_number(low) and _is_number(high) and 0 <= low <= high <= 100):
            raise ValueError(
                f"{path}: the range of {name} is {low!r} to {high!r}; give percentages, 0 to 100"
            )
        found[name] = ReferenceRange(float(low), float(high), source)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise ValueError(f"the limits {path} cannot be read: {error}") from error


def _read(path: Path, known: SmearLimits | None) -> dict[str, Limit]:
    found = {}
    for name, table in _tables(path).items():
        if name == RANGES:
            continue
        if known is not None and name not in known:
            raise ValueError(f"{path}: unknown limit {name!r}; {did_you_mean(name, tuple(known))}")
        values = table if isinstance(table, dict) else {"above": table}
        above: Any = values.get("above")
        source = values.get("source", f"set in {path.name}")
        if set(values) - {"above", "source"} or not isinstance(source, str):
            raise ValueError(f"{path}: {name} has a number `above` and a text `source` only")
        if not _is_number(above) or not 0 <= above <= 100:  # NaN is not
            raise ValueError(f"{path}: {name} is above {above!r}; give a percentage, 0 to 100")
        found[name] = Limit(float(above), source)
    return found
