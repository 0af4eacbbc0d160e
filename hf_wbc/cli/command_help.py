"""Text of `hf-wbc --help` and `hf-wbc COMMAND --help`, rendered from signatures and docstrings.

tyro parses the arguments, but its own help fills more than a screen. Here, `--help` shows an
example, the required flags, and those that the command's module names in a set `COMMON`, if it has
one. `--help-all` shows every flag by group.
"""

import ast
import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

__all__ = ["HELP", "HELP_ALL", "Flag", "command_help", "field_texts", "flags_of", "overview"]

HELP = frozenset({"-h", "--help"})
HELP_ALL = "--help-all"
MAX_WIDTH = 100
COLUMN = 26
"""Where the text of a flag begins; a longer flag has a line of its own."""
TYPES = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH", bool: "BOOL", dict: "NAME VALUE ..."}


@dataclass(frozen=True)
class Flag:
    """One argument of a command."""

    name: str
    """Name in Python, as in `COMMON`: `um_per_px` for --um-per-px."""
    invocation: str
    """As it is typed: `--out PATH`; for a positional argument, its placeholder."""
    text: str
    """What it means."""
    default: str
    """The default as it would be typed; empty if there is none to show."""
    required: bool
    positional: bool
    group: str
    """What the group is about; empty for a command's own arguments."""


def overview(description: str, groups: Mapping[str, Mapping[str, str]]) -> str:
    """Return the text of `hf-wbc --help`: one line for each command, grouped by purpose."""
    lines = ["usage: hf-wbc COMMAND ...", "", description]
    for title, commands in groups.items():
        lines += ["", f"{title}:", *(f"  {name:<12}{line}" for name, line in commands.items())]
    return "\n".join([*lines, "", "hf-wbc COMMAND --help shows an example and the common flags."])


def command_help(
    name: str, command: Callable[..., Any], common: Collection[str] | None = None
) -> str:
    """Return the help text of a command.

    Args:
        name: The command's name.
        command: Its function; the docstring has a summary, an `Example:` paragraph and `Args:`.
        common: Names of the flags to show besides the required ones; None shows every flag.
    """
    width = min(MAX_WIDTH, shutil.get_terminal_size().columns)
    every = list(flags_of(command))
    shown = [each for each in every if common is None or each.required or each.name in common]
    positional = [each for each in shown if each.positional]
    options = [each for each in shown if not each.positional]
    typed = [each.invocation for each in (*positional, *options) if each.required]
    blocks = [_wrap(" ".join([f"usage: hf-wbc {name}", *typed, "[options]"]), width, " " * 7)]
    blocks += [_paragraph(text, width) for text in _split_docstring(command)[0]]
    if positional:
        blocks.append(_section("arguments:", positional, width))
    if common is not None:
        blocks.append(_section("options:", options, width))
    else:
        for group in dict.fromkeys(each.group for each in options):
            members = [each for each in options if each.group == group]
            blocks.append(_section(group or "options:", members, width))
    if hidden := len(every) - len(shown):
        blocks.append(f"{hidden} more: hf-wbc {name} {HELP_ALL}")
    return "\n\n".join(blocks)


def flags_of(command: Callable[..., Any]) -> Iterator[Flag]:
    """Yield the arguments of a command; the fields of a dataclass are arguments of their own."""
    texts = _split_docstring(command)[1]
    for parameter in inspect.signature(command).parameters.values():
        default = MISSING if parameter.default is inspect.Parameter.empty else parameter.default
        yield from _flags(parameter.name, parameter.annotation, default, texts, "")


def _flags(
    name: str, annotation: Any, default: Any, texts: Mapping[str, str], group: str
) -> Iterator[Flag]:
    """Yield the flag of a parameter or field, or a flag for each field of a dataclass."""
    import tyro

    kind, *marks = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    if tyro.conf.Suppress in marks:
        return
    if isinstance(kind, type) and is_dataclass(kind):
        inner = field_texts(kind)
        for each in fields(kind):
            factory: Any = each.default_factory
            value = each.default if factory is MISSING else factory()
            if default is not MISSING:
                value = getattr(default, each.name)
            yield from _flags(each.name, each.type, value, inner, _summary(kind))
        return
    text, positional = texts.get(name, ""), tyro.conf.Positional in marks
    metavar = _metavar(kind, name if positional else "")
    for mark in marks:
        name = getattr(mark, "name", None) or name
        metavar = getattr(mark, "metavar", None) or metavar
    invocation = metavar
    if not positional:
        flag = f"--{name.replace('_', '-')}"
        no_flag = f", --no-{flag[2:]}" if default is True else ""
        invocation = flag + no_flag if kind is bool else f"{flag} {metavar}"
    shown = "" if kind is bool or default in (MISSING, None, ()) else _typed(default)
    yield Flag(name, invocation, text, shown, default is MISSING, positional, group)


def _metavar(kind: Any, name: str = "") -> str:
    """Return the placeholder of a value; a positional argument is called by its name."""
    if get_origin(kind) is Annotated:  # an alternative to None
        kind = get_args(kind)[0]
    options = [each for each in get_args(kind) if each is not NoneType]
    if get_origin(kind) is Literal:
        return f"{{{','.join(map(str, options))}}}"
    if get_origin(kind) in (Union, UnionType):
        return _metavar(options[0], name)
    if get_origin(kind) is tuple:
        return f"{_metavar(options[0], name)} ..."
    return name.upper() or TYPES[get_origin(kind) or kind]


def _typed(default: Any) -> str:
    """Return a default as it would be typed."""
    if isinstance(default, tuple | dict):
        return " ".join(map(str, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _split_docstring(command: Callable[..., Any]) -> tuple[list[str], dict[str, str]]:
    """Return the paragraphs of a docstring, and the text of each argument."""
    text, _, after = inspect.cleandoc(command.__doc__ or "").partition("\n\nArgs:\n")
    arguments, _, _ = after.partition("\n\n")
    found = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", arguments, re.MULTILINE)
    return text.split("\n\n"), {name: " ".join(part.split()) for name, part in found}


def field_texts(cls: type[Any]) -> dict[str, str]:
    """Return the string below each field of a dataclass, including inherited fields."""
    texts: dict[str, str] = {}
    for each in reversed(cls.__mro__[:-1]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        except (OSError, TypeError):  # a class that was made at run time
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for node, below in pairwise(body):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                value = below.value if isinstance(below, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    texts[node.target.id] = " ".join(value.value.split())
    return texts


def _summary(cls: type[Any]) -> str:
    return (cls.__doc__ or "").partition("\n\n")[0].replace("\n", " ").rstrip(".") + ":"


def _paragraph(text: str, width: int) -> str:
    """Wrap a paragraph; an example can be copied to a shell even where it takes several lines."""
    label, colon, command = text.partition("Example: ")
    if label or not colon:
        return _wrap(text, width)
    lines = [""]
    for part in re.split(r" (?=--)", " ".join(command.split())):
        if lines[-1] and len(lines[-1]) + len(part) > width - 9:
            lines.append("")
        lines[-1] += f" {part}" if lines[-1] else part
    return "Example:\n  " + " \\\n      ".join(lines)


def _section(title: str, flags: Sequence[Flag], width: int) -> str:
    """Return a title and a table of flags."""
    lines = [_wrap(title, width)]
    for flag in flags:
        left = f"  {flag.invocation}"
        text = f"{flag.text} (default: {flag.default})" if flag.default else flag.text
        body = _wrap(" " * COLUMN + text, width, " " * COLUMN)
        if len(left) <= COLUMN - 2:
            lines.append(left.ljust(COLUMN) + body[COLUMN:])
        else:
            lines += [_wrap(left, width, "      "), body]
    return "\n".join(lines)


def _wrap(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
