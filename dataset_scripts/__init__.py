"""One file per source: its facts, label map, known faults, and how its archive is walked.

A source file is named for its domain and ends in `SOURCE = Source(...)`. Adding one is adding a
file here and a test.
"""

import importlib
import pkgutil
from difflib import get_close_matches

from hf_wbc.data.source import Source


def names() -> tuple[str, ...]:
    """All sources, in alphabetical order."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(name: str) -> Source:
    """A source by its name; ValueError lists the names that exist."""
    if name not in names():
        near = get_close_matches(name.lower().replace("-", "_"), names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(names())}"
        raise ValueError(f"unknown source {name!r}; {hint}")
    source: Source = importlib.import_module(f"{__name__}.{name}").SOURCE
    assert source.name == name, f"{name}.py defines the source {source.name}"
    return source
