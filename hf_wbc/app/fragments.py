"""Pieces of HTML from templates: whatever a person or a file says is escaped."""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

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


def marked(text: str) -> "Markup":
    """A card's sentence, in which `**` and back quotes mark words, as HTML.

    >>> str(marked("**Oracle.** The rule `snd`, x < y"))
    '<b>Oracle.</b> The rule <code>snd</code>, x &lt; y'
    """
    from markupsafe import Markup, escape

    safe = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", str(escape(text)))
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", safe))


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
    made.filters |= {"share": share, "marked": marked}
    return made


def share(value: float) -> str:
    """A fraction as it is read: two digits, and never 0 or 1 for what is not.

    >>> [share(value) for value in (0.934, 0.9996, 0.0002, 1.0)]
    ['0.93', '>0.99', '<0.01', '1.00']
    """
    if 0 < value < 0.005:
        return "<0.01"
    return ">0.99" if 0.995 <= value < 1 else f"{value:.2f}"
