"""Text sections of a comparison, in reading order.

They cover the scores, the significance tests, the selection rules as judged by target labels, the
cost, the reported challenge results, the agreement between examiners, and the problems.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from hf_wbc.comparison.compare import Comparison, RankTest
from hf_wbc.comparison.document import (
    ARROW,
    Section,
    Table,
    count,
    join_names,
    p_value,
    signed,
    three_decimals,
)
from hf_wbc.comparison.reference_scores import CHALLENGE, PARTICIPANTS
from hf_wbc.comparison.result_table import EvalSetting
from hf_wbc.comparison.score_sections import cost_section, heading, score_sections
from hf_wbc.comparison.selection_rules import ORDER, AmongRunsRegret, WithinRunRegret, mean
from hf_wbc.taxonomy import NAMES

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


def significance_sections(comparison: Comparison) -> Iterator[Section]:
    """Yield the tests of pairs on the same images, then of ranks over directions and seeds."""
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
        notes.append(f"Left out, as half of the methods are missing: {join_names(names)}.")
    if test.left_out:
        notes.append(f"Left out, as they lack a block: {join_names(test.left_out)}.")
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


ORACLE = (
    "Judged by labels of the target's validation images, after the fact: it tells how good the "
    "rules are, and is no result of any method."
)


def rule_sections(comparison: Comparison) -> Iterator[Section]:
    """Yield the regret of selection rules within and among runs, or why there is none."""
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


def _within(found: Sequence[WithinRunRegret]) -> Section:
    """Return the regret within runs, averaged over all methods of a direction."""
    cells = tuple(
        (
            heading(each.sheet),
            each.rule,
            each.sees,
            str(each.num_runs),
            "" if each.correlation is None else signed(each.correlation),
            three_decimals(each.score),
            three_decimals(each.regret),
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


def _by_method(sheet: EvalSetting, found: Sequence[WithinRunRegret]) -> Section:
    """Return the regret of all rules in one direction, by method."""
    rules = [rule for rule in ORDER if any(each.rule == rule for each in found)]
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for each in found:
        scores.setdefault((each.method, each.network), {})[each.rule] = each.score
    several = len({network for _, network in scores}) > 1
    cells = tuple(
        (*(key if several else key[:1]), *(three_decimals(each.get(rule)) for rule in rules))
        for key, each in sorted(scores.items())
    )
    names = ("method", "network") if several else ("method",)
    words = (
        "Oracle-judged: macro-F1 on the target's validation images of the weights that each rule "
        "would have picked, mean over seeds.",
    )
    title = f"Rules side by side: {heading(sheet)}"
    return Section(title, 3, words, Table((*names, *rules), cells, len(names)))


def _among(found: Sequence[AmongRunsRegret]) -> Section:
    groups: dict[tuple[str, str, str], list[AmongRunsRegret]] = {}
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
                three_decimals(fmean(each.score for each in alike)),
                three_decimals(fmean(each.regret for each in alike)),
                three_decimals(mean([each.test_score for each in tested])),
                three_decimals(mean([each.test_regret for each in tested])),
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


CHALLENGES_OWN = frozenset({"acevedo_20", "matek_19", "mll_23", "wbc_1", "wbc_2"})
"""Domains of the challenge and its laboratory; the challenge results are comparable only with
these."""


def reference_sections(
    domains: Collection[str], ceiling: Mapping[str, Any] | None = None
) -> Iterator[Section]:
    """Yield the reference scores for a comparison of runs on `domains`.

    Args:
        domains: Names of the domains.
        ceiling: Result of `noise_ceiling`, if requested.
    """
    if CHALLENGES_OWN & {*domains}:
        yield challenge_section()
    if ceiling is not None:
        yield from ceiling_sections(ceiling)


def challenge_section() -> Section:
    """Return the results of the challenge participants, marked as reported."""
    cells = tuple(
        (
            str(row.rank or ""),
            row.method,
            row.network,
            f"{' + '.join(row.sources)} {ARROW} {row.target}",
            row.remarks,
            f"{row.macro_f1:.2f}",  # only as many digits as were reported
            f"{row.accuracy:.2f}",
        )
        for row in PARTICIPANTS
    )
    headings = ("rank", "method", "network", "direction", "remarks", "macro-F1", "accuracy")
    words = (
        f"Reported, not measured here: {CHALLENGE}. No intervals and no numbers of classes were "
        "given. They can be compared with scores on the same images only: MLL23 is of the same "
        "laboratory, and other images.",
    )
    return Section("What others reported", paragraphs=words, table=Table(headings, cells, 5))


def ceiling_sections(ceiling: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the agreement between examiners: a table of pairs, and one of classes."""
    pairs = [pair for pair in ceiling["pairs"] if pair["num_images"]]
    if not pairs:
        only = f"Of {count(ceiling['num_annotated'], 'image')} none was looked at a second time."
        yield Section("How far examiners agree", paragraphs=(only, *_left_out(ceiling)))
        return
    merged = f" Scored as one: {', '.join(ceiling['merge'])}." if ceiling["merge"] else ""
    words = (
        "A second look at the same images, scored against the first as a classifier would be: a "
        "guide to how high a score can mean anything. "
        f"{ceiling['num_looked_at_again']:,} of {ceiling['num_annotated']:,} images were looked at "
        "again; their shares of the classes need not be the archive's."
        f"{merged}",
        *_left_out(ceiling),
    )
    yield Section(
        "How far examiners agree", paragraphs=words, table=_pairs(pairs, ceiling), is_short=True
    )
    yield Section("How far examiners agree, by class", level=3, table=_classes(pairs))


def ceiling_rows(ceiling: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the pairs of readings as flat rows for CSV and Parquet, with one value per cell."""
    rows = []
    for pair in ceiling["pairs"]:
        scores: dict[str, float] = {}
        for name, (low, high) in pair.get("intervals", {}).items():
            scores |= {name: pair[name], f"{name}_low": low, f"{name}_high": high}
        far = {f"{kind}_errors": share for kind, share in pair.get("lineage_errors", {}).items()}
        names = {name: pair[name] for name in ("reference", "second_look", "num_images")}
        rows.append({**names, "num_classes": pair.get("num_classes", 0), **scores, **far})
    return [row for row in rows if row["num_images"]]


def _left_out(ceiling: Mapping[str, Any]) -> Iterator[str]:
    """Yield which parts of the annotation table could not be used."""
    unknown, bad = ceiling["unknown_codes"], ceiling["bad_lines"]
    if ceiling["num_outside"]:
        yield f"{count(ceiling['num_outside'], 'image')} of no class of the eleven left out."
    if unknown:
        codes = join_names([f"{code} ({number})" for code, number in unknown.items()])
        yield f"Codes that nobody declared, taken as no second look: {codes}."
    if bad:
        more = f", and {len(bad) - 3} more" if len(bad) > 3 else ""
        yield f"Lines that cannot be used: {'; '.join(bad[:3])}{more}."


def _pairs(pairs: Sequence[Mapping[str, Any]], ceiling: Mapping[str, Any]) -> Table:
    def ranged(pair: Mapping[str, Any], name: str) -> str:
        low, high = pair["intervals"][name]
        return f"{three_decimals(pair[name])} [{three_decimals(low)}, {three_decimals(high)}]"

    percent = f"{100 * ceiling['level']:g} %"
    headings = (
        "reference", "second look", f"macro-F1 [{percent}]", f"accuracy [{percent}]",
        f"kappa [{percent}]", "other lineage", "outside", "classes", "images",
    )  # fmt: skip
    cells = tuple(
        (
            pair["reference"],
            pair["second_look"],
            *(ranged(pair, name) for name in ("macro_f1", "accuracy", "kappa")),
            three_decimals(pair["lineage_errors"]["cross_lineage"]),
            three_decimals(pair["lineage_errors"]["outside"]),
            str(pair["num_classes"]),
            str(pair["num_images"]),
        )
        for pair in pairs
    )
    return Table(headings, cells, 2, wide=headings[3:8])


def _classes(pairs: Sequence[Mapping[str, Any]]) -> Table:
    """Return the agreement on each class, with the number of its images."""
    headings = ("class", *(f"{pair['reference']} / {pair['second_look']}" for pair in pairs))
    cells = []
    for name in NAMES:
        found = [pair["per_class"].get(name) for pair in pairs]
        if any(found):
            cells.append((name, *(_share(each) for each in found)))
    return Table(headings, tuple(cells))


def _share(found: Mapping[str, Any] | None) -> str:
    return f"{three_decimals(found['agreement'])} of {found['support']}" if found else ""


HOW_TO_READ = (
    "Scores are means over seeds on test images that no choice looked at; ± is their standard "
    "deviation over seeds, and the 95 % interval a bootstrap over the images, its ends averaged "
    "over seeds. Macro-F1 is the mean over the classes that occur, and can only be compared where "
    "these are the same: every set of images, and every choice of classes, has a table of its "
    "own. Other lineage is the fraction of the images that are taken for a cell of another "
    "lineage. A difference is called real when p, corrected for all in its table, is below 0.05."
)

NUM_PLACES: Final = 4
"""Maximum number of folders named per problem in the text; the `problems` table lists all."""


def sections(comparison: Comparison) -> Iterator[Section]:
    """Yield the sections on scores, tests, rules and cost, and on what is excluded."""
    made = _made_with(comparison)
    yield Section(
        f"Comparison of {count(comparison.num_runs, 'run')}",
        level=1,
        paragraphs=(HOW_TO_READ, f"The runs were made with {made}."),
    )
    yield from score_sections(comparison)
    yield from significance_sections(comparison)
    yield from rule_sections(comparison)
    domains = {name for row in comparison.rows for name in (*row.sheet.sources, row.sheet.domain)}
    yield from reference_sections(domains, comparison.ceiling)
    yield cost_section(comparison)
    yield _problems(comparison)


def _made_with(comparison: Comparison) -> str:
    """Return the versions of packages that affect results, over all runs."""
    versions: dict[str, set[str]] = {}
    for row in comparison.rows:
        for run in row.runs:
            packages: dict[str, Any] = run.record["packages"]
            for name in ("hf_wbc", "torch", "transformers"):
                versions.setdefault(name, set()).add(str(packages.get(name)))
    return join_names([f"{name} {' or '.join(sorted(each))}" for name, each in versions.items()])


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
    """Join the first few places; the `problems` table lists all."""
    rest = len(places) - NUM_PLACES
    return ", ".join(places[:NUM_PLACES]) + (f" and {rest} more" if rest > 0 else "")
