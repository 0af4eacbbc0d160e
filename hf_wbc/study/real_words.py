"""What is said of tests: how many differences are real, and who is ahead over all directions."""

from collections.abc import Iterator

from hf_wbc.study.comparison import Comparison, RankTest
from hf_wbc.study.score_words import heading
from hf_wbc.study.words import Section, Table, count, listed, p_value

BOOTSTRAP = (
    "Paired bootstrap: every model is scored again on the same {num} draws of the test images, "
    "seeds averaged in each; p from the standard error of the difference, corrected by Holm for "
    "the differences in a table. It speaks of other images of the kind, not of other trainings."
)
RANKS = (
    "Friedman's test on ranks, 1 the best, with Nemenyi's critical difference at 0.05 for all "
    "pairs: methods that share a letter are not told apart. A block is a direction and a seed; "
    "seeds of a direction share its images, so the test is surer of itself than it should be."
)


def real_sections(comparison: Comparison) -> Iterator[Section]:
    """Of pairs on the same images, then of ranks over directions and seeds."""
    yield Section("Which differences are real", is_short=True)
    cells = tuple(
        (
            heading(family.sheet),
            family.backbone,
            family.sees,
            str(len(family.entries)),
            f"{sum(each.is_real for each in family.against)} of {len(family.against)}",
            f"{sum(each.is_real for each in family.pairs)} of {len(family.pairs)}",
            family.unit,
        )
        for family in comparison.families
        if family.pairs
    )
    if cells:
        headings = (
            "direction", "network", "rule sees", "methods",
            f"real, against {comparison.baseline}", "real, of all pairs", "drawn",
        )  # fmt: skip
        words = (
            BOOTSTRAP.format(num=f"{comparison.num_resamples:,}".replace(",", " ")),
            "Every pair is in differences.csv.",
        )
        yield Section("On the same images", 3, words, Table(headings, cells, 3))
    for test in comparison.rank_tests:
        yield _ranks(test)


def _ranks(test: RankTest) -> Section:
    title = f"Over directions and seeds: {test.backbone}, rules that see {test.sees}"
    notes = []
    if test.left_out_blocks:
        names = [f"{heading(sheet)} seed {seed}" for sheet, seed in test.left_out_blocks]
        notes.append(f"Left out, as half of the methods are missing: {listed(names)}.")
    if test.left_out:
        notes.append(f"Left out, as they lack a block: {listed(test.left_out)}.")
    if test.ranking is None:
        words = "Too few to rank: it takes three methods that are complete on two blocks."
        return Section(title, 3, (words, *notes))
    found = test.ranking
    facts = (
        f"{count(len(found.names), 'method')} on {count(found.num_blocks, 'block')}: chi square "
        f"{found.statistic:.1f}, p {_equals(found.p)} that all are alike; "
        f"critical difference {found.critical_difference:.2f}."
    )
    cells = tuple(
        (name, letters, f"{rank:.2f}")
        for name, rank, letters in zip(found.names, found.mean_ranks, found.letters, strict=True)
    )
    table = Table(("method", "not told apart", "mean rank"), cells, 2)
    return Section(title, 3, (RANKS, " ".join((facts, *notes))), table, is_short=True)


def _equals(p: float) -> str:
    words = p_value(p)
    return words if words.startswith("<") else f"= {words}"
