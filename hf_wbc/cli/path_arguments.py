"""Paths that commands write to, checked before a command starts.

A parameter of a command says by its type what it writes (`out: OutputFile`). What can be known of
it beforehand is checked for all commands here, so that none works for hours and then cannot write.
"""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from inspect import signature
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

__all__ = [
    "KeptFolder",
    "OutputFile",
    "OutputFolder",
    "WrittenPath",
    "check_outputs",
    "marked_paths",
]

_LONGEST_NAME = 255
"""Most bytes of a file name on any common file system."""


@dataclass(frozen=True)
class WrittenPath:
    """Marks a path that a command writes."""

    is_folder: bool
    may_be_unused: bool = False
    """Whether some calls write nothing there: the default path is then not checked, nor an existing
    folder, which may hold all results already."""


OutputFile = Annotated[Path, WrittenPath(is_folder=False)]
"""A file that is written; an existing one is replaced."""
OutputFolder = Annotated[Path, WrittenPath(is_folder=True)]
"""A folder that is written or replaced."""
KeptFolder = Annotated[Path, WrittenPath(is_folder=True, may_be_unused=True)]
"""A folder of results that are kept, such as a cache or the folder of all runs."""


def check_outputs(
    command: Callable[..., Any], values: tuple[Any, ...], named: Mapping[str, Any]
) -> None:
    """Check all paths that a call of a command writes; nothing is left behind.

    Args:
        command: The function of the command.
        values: Its positional arguments.
        named: Its keyword arguments.

    Raises:
        OSError: Names the path that cannot be written, with the reason.
    """
    expected = signature(command)
    for name, value in expected.bind(*values, **named).arguments.items():
        parameter = expected.parameters[name]
        for mark, path in marked_paths(parameter.annotation, value):
            if not (mark.may_be_unused and path == parameter.default):
                _check(path, mark)


def marked_paths(hint: Any, value: Any) -> Iterator[tuple[WrittenPath, Path]]:
    """Yield the marked paths of a value, also within the fields of options."""
    if get_origin(hint) is Annotated:
        hint, *marks = get_args(hint)
        if isinstance(value, Path):
            yield from ((mark, value) for mark in marks if isinstance(mark, WrittenPath))
    if get_origin(hint) in (Union, UnionType):
        for option in get_args(hint):
            yield from marked_paths(option, value)
    elif is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value), include_extras=True)
        for field in fields(value):
            yield from marked_paths(hints[field.name], getattr(value, field.name))


def _check(path: Path, mark: WrittenPath) -> None:
    """Check that a path can be written, by writing a file without a name on its disk."""
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        raise _error(errno.ENAMETOOLONG, path)
    is_there = path.exists()
    if is_there and path.is_dir() != mark.is_folder:
        raise _error(errno.ENOTDIR if mark.is_folder else errno.EISDIR, path)
    if is_there and mark.is_folder and mark.may_be_unused:
        return
    folder = path.absolute() if is_there and mark.is_folder else path.absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise _error(errno.ENOTDIR, folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        code = error.errno or errno.EACCES  # /proc says that it does not exist
        raise _error(errno.EACCES if code == errno.ENOENT else code, path) from error


def _error(code: int, path: Path) -> OSError:
    return OSError(code, os.strerror(code), str(path))
