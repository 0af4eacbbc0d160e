"""Sections of text and tables, rendered as Markdown, as LaTeX and in the terminal."""

from collections.abc import Sequence
from dataclasses import dataclass

ARROW = "→"
GAP = 2
"""Number of characters between two columns in a terminal."""


class Strong(str):
    """Text of a highlighted cell."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """Table of text; every row has the length of `headings`."""

    headings: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    num_words: int = 1
    """Number of leading text columns; the others are numeric."""
    wide: tuple[str, ...] = ()
    """Headings of columns that a narrow terminal hides, in the order of hiding."""

    def fitting(self, width: int) -> list[int]:
        """Return the indices of the columns that fit into `width` characters.

        Columns in `wide` are hidden until the table fits or none is left.
        """
        shown = list(range(len(self.headings)))
        for name in (name for name in self.wide if name in self.headings):
            if sum(self._width(i) + GAP for i in shown) <= width + GAP:
                break
            shown.remove(self.headings.index(name))
        return shown

    def _width(self, column: int) -> int:
        """Return the width of the longest cell, or of the heading.

        The heading of a numeric column breaks at its first space.
        """
        heading = self.headings[column]
        parts = [heading] if column < self.num_words else heading.split(" ", 1)
        return max(map(len, [*parts, *(line[column] for line in self.cells)]))


@dataclass(frozen=True)
class Section:
    """Heading with explanatory paragraphs and a table."""

    title: str
    level: int = 2
    paragraphs: tuple[str, ...] = ()
    table: Table | None = None
    is_short: bool = False
    """Whether the terminal shows it too."""


def three_decimals(value: float | None) -> str:
    """Format a fraction with three decimals; None gives an empty string."""
    return "" if value is None else f"{value:.3f}"


def signed(value: float) -> str:
    """Format a difference with three decimals, a sign, and a Unicode minus."""
    return f"{value:+.3f}".replace("-", "−")


def difference_interval(low: float, high: float) -> str:
    """Format an interval of differences."""
    return f"[{signed(low)}, {signed(high)}]"


def p_value(p: float) -> str:
    """Format a p-value as papers do."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def join_names(names: Sequence[str], last: str = "and") -> str:
    """Join names for use in a sentence.

    Examples:
        >>> join_names(["a", "b", "c"]), join_names(["a", "b"], "or"), join_names(["a"])
        ('a, b and c', 'a or b', 'a')
    """
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def with_arrow(direction: str) -> str:
    """Replace -> in a direction with a Unicode arrow."""
    return direction.replace("->", ARROW)
