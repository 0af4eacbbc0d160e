"""Escape text that others wrote for spreadsheets, Markdown pages and people.

File names, class names and names of runs come from archives and folders of strangers.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from typing import TextIO
from unicodedata import category

__all__ = [
    "markdown_name", "markdown_text", "names_meant", "plain_lines", "plain_text", "print_plain",
    "public_message", "text_read_back", "write_csv",
]  # fmt: skip

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters that make a spreadsheet read a cell as a formula."""
_MARK = "'"
"""What spreadsheets do not show at the start of a text."""
_PART = r"[^\s'\":;,<>()/\\]"
_PATH = re.compile(rf"(?<![\w.:/])(?:[A-Za-z]:\\|/)(?:{_PART}+[/\\])+({_PART}*)")
_OBJECT = re.compile(r"<([\w.]+) object[^>]* at 0x[0-9a-fA-F]+>|\b0x[0-9a-fA-F]{6,}\b")


def plain_text(text: str) -> str:
    r"""Replace control characters and invisible ones by a visible sign.

    >>> plain_text("a\x1b[31m\u202eb")
    'a\ufffd[31m\ufffdb'
    """
    if text.isprintable():
        return text
    return "".join("\ufffd" if category(each) in ("Cc", "Cf", "Cs") else each for each in text)


def plain_lines(text: str) -> str:
    r"""Replace control characters by a visible sign, except line breaks and tabs.

    A terminal would obey them: names of files could hide or forge lines of the output.

    >>> plain_lines("a:\n\tb\x1b[1A")
    'a:\n\tb\ufffd[1A'
    """
    if text.isprintable():
        return text
    return "\n".join("\t".join(map(plain_text, line.split("\t"))) for line in text.split("\n"))


def print_plain(
    *values: object,
    sep: str = " ",
    end: str = "\n",
    file: TextIO | None = None,
    flush: bool = False,
) -> None:
    """Print like `print`, with control characters replaced as by `plain_lines`.

    Everything that a command prints may hold a name from a file, a dataset or a server.
    """
    print(*(plain_lines(str(each)) for each in values), sep=sep, end=end, file=file, flush=flush)


def write_csv(file: TextIO, titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    r"""Write a table as CSV whose cells a spreadsheet does not run as formulas.

    Text that begins like a formula gets an apostrophe, which spreadsheets do not show, unless it is
    a number. Control characters are replaced.

    >>> import sys
    >>> write_csv(sys.stdout, ["name", "shift"], [["=1+1", -0.5], ["@a\n", "-1"]])
    name,shift
    '=1+1,-0.5
    '@a\ufffd,-1
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(map(_cell, titles))
    writer.writerows(map(_cell, row) for row in rows)


def text_read_back(text: str) -> str:
    r"""Return what a table of `write_csv` gives back of a name, read by `hf_wbc.text.csv_rows`.

    >>> text_read_back("a\x1b.png "), text_read_back("=1.png")
    ('a\ufffd.png', '=1.png')
    """
    return plain_text(text).strip().removeprefix(_MARK).strip()


def names_meant(read: Sequence[str], known: Sequence[str]) -> list[str]:
    r"""Return the known names that names in a table stand for; others stay as they are.

    A table shows control characters of a name as a sign, and spaces around it are lost.

    >>> names_meant(["a\ufffd.png", "b.png", "c.png"], ["a\x1b.png", "b.png"])
    ['a\x1b.png', 'b.png', 'c.png']
    """
    exact = frozenset(known)
    if all(name in exact for name in read):
        return list(read)
    written: dict[str, list[str]] = {}
    for name in known:
        written.setdefault(text_read_back(name), []).append(name)
    found = []
    for name in read:
        meant = [name] if name in exact else written.get(text_read_back(name), [])
        found.append(meant[0] if len(meant) == 1 else name)
    return found


def markdown_text(text: str) -> str:
    r"""Escape text for Markdown, including tables; backticks are kept.

    >>> markdown_text("a|b <b> ![x](http://y)")
    'a\\|b \\<b> ![x]\\(http://y)'
    """
    for sign in "\\|*_<":
        text = text.replace(sign, "\\" + sign)
    for sign in ("](", "]:", "]["):  # links, but not intervals in brackets
        text = text.replace(sign, f"]\\{sign[1]}")
    return plain_text(" ".join(text.split()))


def markdown_name(text: str) -> str:
    """Escape a name for Markdown like `markdown_text`; underscores within words are kept."""
    return markdown_text(text).replace("\\_", "_")


def public_message(error: BaseException | str) -> str:
    """Return a message without the server's folders and without addresses of objects.

    >>> public_message("/srv/app/model.bin is damaged (<_io.BytesIO object at 0x7f00aa11>)")
    'model.bin is damaged (a BytesIO)'
    """
    text = _PATH.sub(lambda found: found[1] or "a folder", str(error))
    text = _OBJECT.sub(lambda found: f"a {found[1].rpartition('.')[2]}" if found[1] else "it", text)
    return plain_text(" ".join(text.split()))


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = plain_text(value)
    if not value.lstrip().startswith(_FORMULA) and not value.startswith(("\t", "\r", "\n")):
        return text
    try:
        float(value)
    except ValueError:
        return f"{_MARK}{text}"
    return text
