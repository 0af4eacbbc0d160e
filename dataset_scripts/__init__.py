"""One module per data source: its metadata, label map, known faults, and archive layout.

A source module is named after its domain and ends in `SOURCE = ArchiveSpec(...)`. If a
user-supplied file can configure the source, the module defines `configure(FLAG: Path) ->
ArchiveSpec`, whose parameter name is the command-line flag that takes the file. A source that
requires such a file has no `SOURCE`. To add a source, add a module here and a test.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path

from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.preparation.toy_source import to_toy_source
from hf_wbc.text import did_you_mean


def names() -> tuple[str, ...]:
    """Return the names of all sources in alphabetical order."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def load(name: str, **files: Path | None) -> ArchiveSpec:
    """Load a source by name, optionally configured by a file.

    For example: `load("wbc_1", labels=Path("labels.csv"))`.

    Args:
        name: Name of the source module.
        **files: Configuration files by flag; None means that the flag was not given.

    Raises:
        ValueError: If the name is unknown, the source does not take one of the files, or the source
            requires a file that is missing.
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
            takes = f"it takes --{taken[0]}" if taken else "omit it"
            raise ValueError(f"the source {name} has no option --{flag} ({path}); {takes}")
    if configure and given:
        configured: ArchiveSpec = configure(**given)
        return configured
    if not hasattr(module, "SOURCE"):
        raise ValueError(f"the source {name} is described by a file; give --{taken[0]} FILE")
    source: ArchiveSpec = module.SOURCE
    assert source.name == name, f"{name}.py defines the source {source.name}"
    return source


def known() -> dict[str, ArchiveSpec]:
    """Return all sources that need no user-supplied file, and their toy versions, by domain."""
    modules = (importlib.import_module(f"{__name__}.{name}") for name in names())
    real = [module.SOURCE for module in modules if hasattr(module, "SOURCE")]
    return {source.name: source for source in (*real, *map(to_toy_source, real))}
