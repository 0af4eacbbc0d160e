"""The whole comparison in words, in the order in which it is read."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from hf_wbc.study.comparison import Comparison
from hf_wbc.study.real_words import real_sections
from hf_wbc.study.reference_words import reference_sections
from hf_wbc.study.rule_words import rule_sections
from hf_wbc.study.score_words import cost_section, score_sections
from hf_wbc.study.words import Section, Table, count, listed

HOW_TO_READ = (
    "Scores are means over seeds on test images that no choice looked at; ± is their standard "
    "deviation over seeds, and the 95 % interval a bootstrap over the images, its ends averaged "
    "over seeds. Macro-F1 is the mean over the classes that occur, and can only be compared where "
    "these are the same: every set of images, and every choice of classes, has a table of its "
    "own. Other lineage is the fraction of the images that are taken for a cell of another "
    "lineage. A difference is called real when p, corrected for all in its table, is below 0.05."
)

NUM_PLACES: Final = 4
"""Folders with one and the same problem that are named where people read; `problems` has all."""


def sections(comparison: Comparison) -> Iterator[Section]:
    """Scores, tests, rules, cost, and what is not in them."""
    made = _made_with(comparison)
    yield Section(
        f"Comparison of {count(comparison.num_runs, 'run')}",
        level=1,
        paragraphs=(HOW_TO_READ, f"The runs were made with {made}."),
    )
    yield from score_sections(comparison)
    yield from real_sections(comparison)
    yield from rule_sections(comparison)
    domains = {name for row in comparison.rows for name in (*row.sheet.sources, row.sheet.domain)}
    yield from reference_sections(domains, comparison.ceiling)
    yield cost_section(comparison)
    yield _problems(comparison)


def _made_with(comparison: Comparison) -> str:
    """The versions of what decides results, over all runs."""
    versions: dict[str, set[str]] = {}
    for row in comparison.rows:
        for run in row.runs:
            packages: dict[str, Any] = run.record["packages"]
            for name in ("hf_wbc", "torch", "transformers"):
                versions.setdefault(name, set()).add(str(packages.get(name)))
    return listed([f"{name} {' or '.join(sorted(each))}" for name, each in versions.items()])


def _problems(comparison: Comparison) -> Section:
    title = "Not compared, or not wholly"
    if not comparison.problems:
        return Section(title, paragraphs=("Nothing: every run folder is in the tables.",))
    places: dict[str, list[str]] = {}
    for each in comparison.problems:
        places.setdefault(each.what, []).append(each.place)
    cells = tuple((_first(found), what) for what, found in places.items())
    return Section(title, table=Table(("folder", "why"), cells, 2), is_short=True)


def _first(places: Sequence[str]) -> str:
    """The first few of many; a table of its own has all."""
    rest = len(places) - NUM_PLACES
    return ", ".join(places[:NUM_PLACES]) + (f" and {rest} more" if rest > 0 else "")
