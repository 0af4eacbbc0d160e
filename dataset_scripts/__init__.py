"""One file per source: its facts, label map, known faults, and how its archive is walked.

A source file is named for its domain and ends in `SOURCE = Source(...)`. Where a file of the user
says more, it has `configure(FLAG: Path) -> Source`, with the flag that takes the file as the
parameter's name; a source that knows nothing without it has no `SOURCE`. Adding one is adding a
file here and a test.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path

from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.preparation.toy_source import to_toy_source
from hf_wbc.text import did_you_mean


def names() -> tuple[str, ...]:
    """All sources, in alphabetical order."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(name: str, **files: Path | None) -> ArchiveSpec:
    """A source by its name, configured by a file: `load("wbc_1", labels=Path("labels.csv"))`.

    ValueError for an unknown name, which lists those that exist, for a file that this source does
    not take, and when it needs one.
    """
    if name not in names():
        hint = did_you_mean(name.lower().replace("-", "_"), names())
        raise ValueError(f"unknown source {name!r}; {hint}")
    module = importlib.import_module(f"{__name__}.{name}")
    configure = getattr(module, "configure", None)
    taken = tuple(inspect.signature(configure).parameters) if configure else ()
    given = {flag: path for flag, path in files.items() if path is not None}
    for flag, path in given.items():
        if flag not in taken:
            takes = f"it takes --{taken[0]}" if taken else "leave it out"
            raise ValueError(f"the source {name} takes no --{flag} {path}; {takes}")
    if configure and given:
        configured: ArchiveSpec = configure(**given)
        return configured
    if not hasattr(module, "SOURCE"):
        raise ValueError(f"the source {name} is described by a file; give --{taken[0]} FILE")
    source: ArchiveSpec = module.SOURCE
    assert source.name == name, f"{name}.py defines the source {source.name}"
    return source


def known() -> dict[str, ArchiveSpec]:
    """By domain, the sources that need no file of the user's to be described, and their toys."""
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names())
    real = [module.SOURCE for module in modules if hasattr(module, "SOURCE")]
    return {source.name: source for source in (*real, *map(to_toy_source, real))}
