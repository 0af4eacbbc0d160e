"""What is said of selection rules: what each would have chosen, as the target's labels judge it."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from hf_wbc.study.comparison import Comparison
from hf_wbc.study.rules import ORDER, Among, Within, mean
from hf_wbc.study.score_words import heading
from hf_wbc.study.table import Sheet
from hf_wbc.study.words import Section, Table, count, signed, three

ORACLE = (
    "Judged by labels of the target's validation images, after the fact: it tells how good the "
    "rules are, and is no result of any method."
)


def rule_sections(comparison: Comparison) -> Iterator[Section]:
    """Within runs and among them; or why nothing can be said."""
    judged = comparison.judged
    without = f" {count(judged.num_without, 'training')} did not, and is not in here."
    if judged.num_without > 1:
        without = without.replace("is not in", "are not in")
    looked = f"{count(judged.num_runs, 'training')} looked at the oracle's score."
    words = looked + (without if judged.num_without else "")
    if not judged.num_runs:
        words = (
            "No training looked at the oracle's score; with `hf-wbc train --oracle` the rules can "
            "be judged."
        )
        yield Section("What each selection rule would have chosen", paragraphs=(words,))
        return
    yield Section("What each selection rule would have chosen", paragraphs=(ORACLE, words))
    yield _within(judged.within)
    for sheet in dict.fromkeys(each.sheet for each in judged.by_method):
        yield _by_method(sheet, [each for each in judged.by_method if each.sheet == sheet])
    yield _among(judged.among)


def _within(found: Sequence[Within]) -> Section:
    """Over all methods of a direction."""
    cells = tuple(
        (
            heading(each.sheet),
            each.rule,
            each.sees,
            str(each.num_runs),
            "" if each.correlation is None else signed(each.correlation),
            three(each.score),
            three(each.regret),
        )
        for each in found
    )
    headings = ("direction", "rule", "sees", "runs", "correlation", "oracle's macro-F1", "lost")
    words = (
        "Oracle-judged. Each rule picks an evaluation of each run; means over runs. Correlation is "
        "Spearman's, of the rule's values with the oracle's; lost is what the run's best "
        "evaluation had more.",
    )
    return Section("Which weights of a run", 3, words, Table(headings, cells, 3))


def _by_method(sheet: Sheet, found: Sequence[Within]) -> Section:
    """The rules of a direction side by side."""
    rules = [rule for rule in ORDER if any(each.rule == rule for each in found)]
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for each in found:
        scores.setdefault((each.method, each.network), {})[each.rule] = each.score
    several = len({network for _, network in scores}) > 1
    cells = tuple(
        (*(key if several else key[:1]), *(three(each.get(rule)) for rule in rules))
        for key, each in sorted(scores.items())
    )
    names = ("method", "network") if several else ("method",)
    words = (
        "Oracle-judged: macro-F1 on the target's validation images of the weights that each rule "
        "would have picked, mean over seeds.",
    )
    title = f"Rules side by side: {heading(sheet)}"
    return Section(title, 3, words, Table((*names, *rules), cells, len(names)))


def _among(found: Sequence[Among]) -> Section:
    groups: dict[tuple[str, str, str], list[Among]] = {}
    for each in found:
        groups.setdefault((heading(each.sheet), each.rule, each.sees), []).append(each)
    cells = []
    for key, alike in groups.items():
        tested = [each for each in alike if each.test_score is not None]
        tests = f"{len(tested)} of {len(alike)}"
        cells.append(
            (
                *key,
                ", ".join(each.method for each in alike),
                three(fmean(each.score for each in alike)),
                three(fmean(each.regret for each in alike)),
                three(mean([each.test_score for each in tested])),
                three(mean([each.test_regret for each in tested])),
                tests,
            )
        )
    headings = (
        "direction", "rule", "sees", "chose, by seed", "oracle's macro-F1", "lost",
        "test macro-F1", "lost on test", "seeds with a test",
    )  # fmt: skip
    words = (
        "Oracle-judged. Each rule picks one evaluation among those of all runs of a direction and "
        "a seed, whatever their method; means over seeds. Test scores are known where the run "
        "kept the weights that the rule picked; lost on test is what the best candidate had more.",
    )
    return Section("Which run of all", 3, words, Table(headings, tuple(cells), 4))
