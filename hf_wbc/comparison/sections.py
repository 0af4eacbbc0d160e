"""Text sections of a comparison, in reading order.

They cover the scores, the significance tests, the regret of selection rules, the
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
    join_names,
    p_value,
    signed,
    three_decimals,
)
from hf_wbc.comparison.reference_scores import CHALLENGE, PARTICIPANTS
from hf_wbc.comparison.result_table import EvalSetting
from hf_wbc.comparison.score_sections import (
    cost_section,
    heading,
    optional_sections,
    score_sections,
)
from hf_wbc.comparison.selection_rules import ORDER, AmongRunsRegret, WithinRunRegret, mean
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import plural

BOOTSTRAP = (
    "Paired bootstrap: every model is scored on the same {num} resamples of the test images, "
    "averaged over seeds. p is computed from the standard error of the difference, and corrected "
    "for all differences in a table (Holm). The test generalizes to new images of the same kind, "
    "not to new training runs."
)
RANKS = (
    "Friedman test on ranks (1 is the best), with Nemenyi's critical difference at 0.05 for all "
    "pairs: methods that share a letter do not differ significantly. A block is a direction and a "
    "seed; the seeds of a direction share its images, so the test overstates its confidence."
)


def significance_sections(comparison: Comparison) -> Iterator[Section]:
    """Yield the tests of pairs on the same images, then of ranks over directions and seeds."""
    yield Section("Significant differences", is_short=True)
    cells = tuple(
        (
            heading(family.setting),
            family.backbone,
            family.sees,
            str(len(family.entries)),
            f"{sum(each.is_significant for each in family.against)} of {len(family.against)}",
            f"{sum(each.is_significant for each in family.pairs)} of {len(family.pairs)}",
            family.unit,
        )
        for family in comparison.families
        if family.pairs
    )
    if cells:
        headings = (
            "direction", "network", "rule sees", "methods",
            f"significant, against {comparison.baseline}", "significant, of all pairs", "unit",
        )  # fmt: skip
        text = (
            BOOTSTRAP.format(num=f"{comparison.num_resamples:,}".replace(",", " ")),
            "All pairs are in differences.csv.",
        )
        yield Section("On the same images", 3, text, Table(headings, cells, 3))
    for test in comparison.rank_tests:
        yield _ranks(test)


def _ranks(test: RankTest) -> Section:
    title = f"Over directions and seeds: {test.backbone}, rules that see {test.known}"
    notes = []
    if test.left_out_blocks:
        names = [f"{heading(setting)} seed {seed}" for setting, seed in test.left_out_blocks]
        notes.append(f"Excluded, because half of the methods are missing: {join_names(names)}.")
    if test.left_out:
        notes.append(f"Excluded, because they lack a block: {join_names(test.left_out)}.")
    if test.ranking is None:
        text = "Too few to rank: at least three methods with results on two blocks are needed."
        return Section(title, 3, (text, *notes))
    found = test.ranking
    facts = (
        f"{plural(len(found.names), 'method')} on {plural(found.num_blocks, 'block')}: chi square "
        f"{found.statistic:.1f}, p {_equals(found.p)} for equal methods; "
        f"critical difference {found.critical_difference:.2f}."
    )
    cells = tuple(
        (name, letters, f"{rank:.2f}")
        for name, rank, letters in zip(found.names, found.mean_ranks, found.letters, strict=True)
    )
    table = Table(("method", "letters", "mean rank"), cells, 2)
    return Section(title, 3, (RANKS, " ".join((facts, *notes))), table, is_short=True)


def _equals(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


ORACLE = (
    "Measured afterwards with the labels of the target's validation images: this shows how good "
    "the rules are, and is not a valid result of any method."
)


def rule_sections(comparison: Comparison) -> Iterator[Section]:
    """Yield the regret of selection rules within and among runs, or why there is none."""
    regrets = comparison.rule_regrets
    verb = "is" if regrets.num_without == 1 else "are"
    without = f" {plural(regrets.num_without, 'run')} did not, and {verb} excluded."
    text = f"{plural(regrets.num_runs, 'run')} recorded the oracle's score."
    text += without if regrets.num_without else ""
    if not regrets.num_runs:
        text = (
            "No run recorded the oracle's score; train with `hf-wbc train --oracle` to evaluate "
            "the rules."
        )
        yield Section("What each selection rule would have chosen", paragraphs=(text,))
        return
    yield Section("What each selection rule would have chosen", paragraphs=(ORACLE, text))
    yield _within(regrets.within)
    for setting in dict.fromkeys(each.setting for each in regrets.by_method):
        yield _by_method(setting, [each for each in regrets.by_method if each.setting == setting])
    yield _among(regrets.among)


def _within(found: Sequence[WithinRunRegret]) -> Section:
    """Return the regret within runs, averaged over all methods of a direction."""
    cells = tuple(
        (
            heading(each.setting),
            each.rule,
            each.sees,
            str(each.num_runs),
            "" if each.correlation is None else signed(each.correlation),
            three_decimals(each.score),
            three_decimals(each.regret),
        )
        for each in found
    )
    headings = ("direction", "rule", "sees", "runs", "correlation", "oracle's macro-F1", "regret")
    text = (
        "Oracle: uses target labels. Each rule selects an evaluation of each run; means over runs. "
        "Correlation is Spearman's, between the rule's values and the oracle's; regret is the gap "
        "to the run's best evaluation.",
    )
    return Section("Choices within a run", 3, text, Table(headings, cells, 3))


def _by_method(setting: EvalSetting, found: Sequence[WithinRunRegret]) -> Section:
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
    text = (
        "Oracle: uses target labels. Macro-F1 on the target's validation images of the weights "
        "that each "
        "rule would have selected, mean over seeds.",
    )
    title = f"Rules side by side: {heading(setting)}"
    return Section(title, 3, text, Table((*names, *rules), cells, len(names)))


def _among(found: Sequence[AmongRunsRegret]) -> Section:
    groups: dict[tuple[str, str, str], list[AmongRunsRegret]] = {}
    for each in found:
        groups.setdefault((heading(each.setting), each.rule, each.sees), []).append(each)
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
        "direction", "rule", "sees", "choice, by seed", "oracle's macro-F1", "regret",
        "test macro-F1", "test regret", "seeds with a test",
    )  # fmt: skip
    text = (
        "Oracle: uses target labels. Each rule selects one evaluation among those of all runs of a "
        "direction and a seed, over all methods; means over seeds. Test scores are known if the "
        "run kept the weights that the rule selected; test regret is the gap to the best "
        "candidate.",
    )
    return Section("Choices among all runs", 3, text, Table(headings, tuple(cells), 4))


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
    text = (
        f"Reported, not measured here: {CHALLENGE}. Neither intervals nor the number of classes "
        "were reported. They are comparable only with scores on the same images: MLL23 contains "
        "other images of the same laboratory.",
    )
    return Section("Reported results of others", paragraphs=text, table=Table(headings, cells, 5))


def ceiling_sections(ceiling: Mapping[str, Any]) -> Iterator[Section]:
    """Yield the agreement between examiners: a table of pairs, and one of classes."""
    pairs = [pair for pair in ceiling["pairs"] if pair["num_images"]]
    if not pairs:
        only = f"No second annotations: {plural(ceiling['num_annotated'], 'image')} annotated once."
        yield Section("Agreement between examiners", paragraphs=(only, *_left_out(ceiling)))
        return
    merged = f" Merged: {', '.join(ceiling['merge'])}." if ceiling["merge"] else ""
    text = (
        "Second annotations of the same images, scored against the first like a classifier: an "
        "estimate of the highest meaningful score. "
        f"{ceiling['num_looked_at_again']:,} of {ceiling['num_annotated']:,} images were annotated "
        "again; their class proportions may differ from the archive's."
        f"{merged}",
        *_left_out(ceiling),
    )
    yield Section(
        "Agreement between examiners", paragraphs=text, table=_pairs(pairs, ceiling), is_short=True
    )
    yield Section("Agreement between examiners, by class", level=3, table=_classes(pairs))


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
        yield f"{plural(ceiling['num_outside'], 'image')} outside the eleven classes excluded."
    if unknown:
        codes = join_names([f"{code} ({number})" for code, number in unknown.items()])
        yield f"Unknown codes, treated as no second annotation: {codes}."
    if bad:
        more = f", and {len(bad) - 3} more" if len(bad) > 3 else ""
        yield f"Invalid lines: {'; '.join(bad[:3])}{more}."


def _pairs(pairs: Sequence[Mapping[str, Any]], ceiling: Mapping[str, Any]) -> Table:
    def ranged(pair: Mapping[str, Any], name: str) -> str:
        low, high = pair["intervals"][name]
        return f"{three_decimals(pair[name])} [{three_decimals(low)}, {three_decimals(high)}]"

    percent = f"{100 * ceiling['level']:g} %"
    headings = (
        "reference", "second reading", f"macro-F1 [{percent}]", f"accuracy [{percent}]",
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
    "Scores are means over seeds on test images that were not used for any choice; ± is the "
    "standard deviation over seeds, and the 95 % interval is a bootstrap over images, with its "
    "ends averaged over seeds. Macro-F1 is the mean over the classes that occur, and is comparable "
    "only for the same classes: every set of images and every selection of classes has its own "
    "table. Other lineage is the fraction of images predicted as a cell of another lineage, "
    "critical that of blasts and promyelocytes called anything else. A difference is significant "
    "if p, corrected for all differences in its table, is below 0.05."
)

NUM_PLACES: Final = 4
"""Maximum number of folders named per problem in the text; the `problems` table lists all."""


def sections(comparison: Comparison) -> Iterator[Section]:
    """Yield the sections on scores, tests, rules and cost, and on what is excluded."""
    used = _package_versions(comparison)
    yield Section(
        f"Comparison of {plural(comparison.num_runs, 'run')}",
        level=1,
        paragraphs=(HOW_TO_READ, f"The runs used {used}."),
    )
    yield from score_sections(comparison)
    yield from significance_sections(comparison)
    yield from optional_sections(comparison)
    yield from rule_sections(comparison)
    domains = {
        name for row in comparison.rows for name in (*row.setting.sources, row.setting.domain)
    }
    yield from reference_sections(domains, comparison.ceiling)
    yield cost_section(comparison)
    yield _problems(comparison)


def _package_versions(comparison: Comparison) -> str:
    """Return the versions of packages that affect results, over all runs."""
    versions: dict[str, set[str]] = {}
    for row in comparison.rows:
        for run in row.runs:
            packages: dict[str, Any] = run.record["packages"]
            for name in ("hf_wbc", "torch", "transformers"):
                versions.setdefault(name, set()).add(str(packages.get(name)))
    return join_names([f"{name} {' or '.join(sorted(each))}" for name, each in versions.items()])


def _problems(comparison: Comparison) -> Section:
    title = "Excluded or incomplete runs"
    if not comparison.problems:
        return Section(title, paragraphs=("None: every run folder is in the tables.",))
    places: dict[str, list[str]] = {}
    for each in comparison.problems:
        places.setdefault(each.what, []).append(each.place)
    cells = tuple((_first(found), what) for what, found in places.items())
    return Section(title, table=Table(("folder", "why"), cells, 2), is_short=True)


def _first(places: Sequence[str]) -> str:
    """Join the first few places; the `problems` table lists all."""
    rest = len(places) - NUM_PLACES
    return ", ".join(places[:NUM_PLACES]) + (f" and {rest} more" if rest > 0 else "")
