"""Small helpers for text that people write and read: CSV tables, lists and hints in errors."""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = [
    "MAX_YAML", "csv_rows", "did_you_mean", "duration", "parse_xml", "parse_yaml", "shorten_list",
    "with_spaces",
]  # fmt: skip

MAX_YAML = 2**16
"""Most characters of a YAML text; eval.yaml and front matters have about a thousand."""

MAX_BRACKETS = 1000


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown name: the closest known name, or else all of them.

    The hint completes an error message: `f"unknown method {name!r}; {did_you_mean(name, known)}"`.

    >>> did_you_mean("corall", ["coral", "dann"])
    "did you mean 'coral'?"
    >>> did_you_mean("xyz", ["coral", "dann"])
    'choose from coral, dann'
    """
    names = list(known)
    if close := get_close_matches(name, names, n=1):
        return f"did you mean {close[0]!r}?"
    return f"choose from {', '.join(names)}" if names else "there are none to choose from"


def csv_rows(
    data: bytes, name: str, columns: Collection[str], delimiter: str = ","
) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield the line number and the cells of each row of a CSV table.

    Cells are stripped of surrounding whitespace, and empty lines are skipped.

    Args:
        data: A comma-separated UTF-8 table whose first line names the columns.
        name: The file's name, for error messages.
        columns: Required columns; others are allowed.
        delimiter: What separates the cells.

    Raises:
        ValueError: If `data` is anything else; the message names the file and the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name} is not UTF-8 text (byte {error.start}); save it as CSV in UTF-8"
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    try:
        header = [title.strip() for title in next(reader, [])]
        if missing := [column for column in columns if column not in header]:
            raise ValueError(
                f"{name} has no column {', '.join(missing)}; its columns are "
                f"{', '.join(header) or 'none'}; name the columns in the first line, separated by "
                "commas"
            )
        if len(set(header)) < len(header):
            raise ValueError(f"{name} has two columns of the same name: {', '.join(header)}")
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"{name}, line {reader.line_num}: {len(cells)} cells in a table of "
                    f"{len(header)} columns; fix the line"
                )
            row = zip(header, (cell.strip() for cell in cells), strict=True)
            yield reader.line_num, dict(row)
    except csv.Error as error:
        raise ValueError(f"{name}, line {reader.line_num}: {error}; fix the line") from error


def parse_yaml(text: str, name: str) -> Any:
    """Parse a short YAML text from anyone.

    Aliases are refused: a few hundred bytes of them stand for gigabytes once they are printed.

    Args:
        text: The text.
        name: What it is, for error messages.

    Raises:
        ValueError: If it is no YAML, too long, nested too deeply, or has aliases.
    """
    import yaml

    if len(text) > MAX_YAML:
        raise ValueError(f"{name} has more than {MAX_YAML:,} characters; shorten it")
    if text.count("[") + text.count("{") > MAX_BRACKETS:  # seconds for each ten thousand
        raise ValueError(f"{name} has more than {MAX_BRACKETS:,} opening brackets; shorten it")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise ValueError(f"{name} has aliases (*name), which are not supported; write them out")
        return yaml.safe_load(text)
    except (
        ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, yaml.YAMLError,
    ) as error:  # fmt: skip
        said = " ".join(str(error).split())[:200]  # explicit tags lead to errors of many types
        raise ValueError(f"{name} is damaged: {said}") from error
    except ValueError as error:
        found = str(error)[:200]
        raise ValueError(found if found.startswith(name) else f"{name}: {found}") from error


def parse_xml(data: bytes, name: str) -> "Element":
    """Parse XML from anyone, without entities, which can expand without end.

    Args:
        data: XML in UTF-8.
        name: What it is, for error messages.

    Raises:
        ValueError: If it is anything else.
    """
    from xml.etree import ElementTree

    try:  # in another encoding, entities would not be seen
        text = data.decode("utf-8-sig")
        if "\0" in text:
            raise ValueError("it has null characters")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise ValueError("it declares a document type or entities; remove them")
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{name} is not XML in UTF-8 ({error}); export it again") from error


def shorten_list(values: Collection[object], num: int = 5) -> str:
    """Format the first `num` values and how many are left out: `1, 2, 3 and 14 more`."""
    shown = ", ".join(str(value) for value in list(values)[:num])
    return shown + (f" and {len(values) - num} more" if len(values) > num else "")


def plural(number: int, noun: str, nouns: str = "") -> str:
    """Return a number and its noun, whose plural ends in "s" unless `nouns` is given.

    >>> plural(1, "cell"), plural(0, "cell"), plural(2, "entry", "entries")
    ('1 cell', '0 cells', '2 entries')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {nouns or noun + 's'}"


def duration(seconds: float) -> str:
    """Format a duration for display.

    Examples:
        >>> duration(42), duration(600), duration(4000), duration(200_000)
        ('42 s', '10 min', '1 h 07 min', '2 d 7 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def with_spaces(name: str) -> str:
    """Return an identifier for display: `neutrophil_banded` as `neutrophil banded`."""
    return name.replace("_", " ")
