"""Limits of the flags of a differential count, read from a TOML file.

The defaults, with their sources, are in `smear_limits.toml`. A laboratory's own file replaces the
limits that it names.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_wbc.text import did_you_mean

__all__ = ["Limit", "SmearLimits", "load_limits"]

DEFAULTS = Path(__file__).with_name("smear_limits.toml")


@dataclass(frozen=True)
class Limit:
    """Share above which a flag is raised."""

    above: float
    """Percent of the white cells, in [0, 100]; of nucleated red cells, number per 100 of them."""
    source: str = ""
    """Where the limit comes from."""


SmearLimits = Mapping[str, Limit]


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


def _read(path: Path, known: SmearLimits | None) -> dict[str, Limit]:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"the limits {path} cannot be read: {error}") from error
    found = {}
    for name, table in tables.items():
        if known is not None and name not in known:
            raise ValueError(f"{path}: unknown limit {name!r}; {did_you_mean(name, tuple(known))}")
        values = table if isinstance(table, dict) else {"above": table}
        above: Any = values.get("above")
        source = values.get("source", f"set in {path.name}")
        if set(values) - {"above", "source"} or not isinstance(source, str):
            raise ValueError(f"{path}: {name} has a number `above` and a text `source` only")
        is_number = isinstance(above, int | float) and not isinstance(above, bool)
        if not is_number or not 0 <= above <= 100:  # NaN is not
            raise ValueError(f"{path}: {name} is above {above!r}; give a percentage, 0 to 100")
        found[name] = Limit(float(above), source)
    return found
