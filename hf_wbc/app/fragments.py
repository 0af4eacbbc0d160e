"""Pieces of HTML from templates: whatever a person or a file says is escaped."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent / "templates"


def fragment(template: str, values: Mapping[str, Any]) -> str:
    """A template of this room with its values; a missing one is an error."""
    return _environment().get_template(template).render(**values)


def notice(words: str, kind: str = "note") -> str:
    """A sentence in a frame; `kind` is note, or warning, which a screen reader says at once."""
    return fragment("notice.html", {"words": words, "kind": kind})


def style() -> str:
    """The page's style sheet."""
    return (FOLDER / "page.css").read_text(encoding="utf-8")


def script(name: str) -> str:
    """A script of the page."""
    return (FOLDER / name).read_text(encoding="utf-8")


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"share": _share}
    return made


def _share(value: float) -> str:
    """A fraction as it is read: two digits, and never 0 or 1 for what is not.

    >>> [_share(value) for value in (0.934, 0.9996, 0.0002, 1.0)]
    ['0.93', '>0.99', '<0.01', '1.00']
    """
    if 0 < value < 0.005:
        return "<0.01"
    return ">0.99" if 0.995 <= value < 1 else f"{value:.2f}"
