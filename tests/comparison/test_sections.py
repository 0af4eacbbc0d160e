"""The comparison's text: what it states about excluded folders."""

from dataclasses import dataclass
from pathlib import Path

from hf_wbc.comparison.collect import Problem
from hf_wbc.comparison.sections import _problems


@dataclass(frozen=True)
class Found:
    """The part of a comparison that its last section reads."""

    problems: tuple[Problem, ...]


def test_folders_with_the_same_problem_share_a_line() -> None:
    many = tuple(Problem(Path(name), "damaged", name) for name in "abcdef")
    section = _problems(Found((*many, Problem(Path("g"), "failed", "g"))))  # type: ignore[arg-type]
    assert section.table is not None
    assert section.table.cells == (("a, b, c, d and 2 more", "damaged"), ("g", "failed"))
