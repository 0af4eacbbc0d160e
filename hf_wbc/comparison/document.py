"""The comparison as sections of words and cells, which Markdown, LaTeX and the terminal share."""

from collections.abc import Sequence
from dataclasses import dataclass

ARROW = "→"
GAP = 2
"""Letters between two columns in a terminal."""


class Strong(str):
    """A cell that stands out."""

    __slots__ = ()


@dataclass(frozen=True)
class Table:
    """Cells under headings; all rows are as long as `headings`."""

    headings: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    num_words: int = 1
    """The first columns hold words, the others numbers."""
    wide: tuple[str, ...] = ()
    """Headings of columns that a narrow terminal leaves out, in the order in which they go."""

    def fitting(self, width: int) -> list[int]:
        """The columns that are left when wide ones go until a line has at most `width` letters."""
        shown = list(range(len(self.headings)))
        for name in (name for name in self.wide if name in self.headings):
            if sum(self._width(i) + GAP for i in shown) <= width + GAP:
                break
            shown.remove(self.headings.index(name))
        return shown

    def _width(self, column: int) -> int:
        """Of the longest cell, or of the heading, which breaks at its first space over numbers."""
        heading = self.headings[column]
        parts = [heading] if column < self.num_words else heading.split(" ", 1)
        return max(map(len, [*parts, *(line[column] for line in self.cells)]))


@dataclass(frozen=True)
class Section:
    """A heading, what has to be known, and a table."""

    title: str
    level: int = 2
    paragraphs: tuple[str, ...] = ()
    table: Table | None = None
    is_short: bool = False
    """Whether the terminal shows it too."""


def three_decimals(value: float | None) -> str:
    """A fraction to three digits; empty for none."""
    return "" if value is None else f"{value:.3f}"


def signed(value: float) -> str:
    """A difference to three digits, with a real minus."""
    return f"{value:+.3f}".replace("-", "−")


def difference_interval(low: float, high: float) -> str:
    """An interval of differences."""
    return f"[{signed(low)}, {signed(high)}]"


def p_value(p: float) -> str:
    """As papers write it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(number: int, one: str, many: str = "") -> str:
    """`1 run`, `2 runs`."""
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"


def join_names(names: Sequence[str], last: str = "and") -> str:
    """A list in a sentence.

    >>> join_names(["a", "b", "c"]), join_names(["a", "b"], "or"), join_names(["a"])
    ('a, b and c', 'a or b', 'a')
    """
    return f" {last} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def with_arrow(direction: str) -> str:
    """A direction with a real arrow."""
    return direction.replace("->", ARROW)
