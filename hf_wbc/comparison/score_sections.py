"""Report sections of the scores: a table for each set of images, the rules, and the cost."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from statistics import fmean

from hf_wbc.comparison.collect import Run
from hf_wbc.comparison.compare import Comparison, ComparisonFamily
from hf_wbc.comparison.document import (
    Section,
    Strong,
    Table,
    difference_interval,
    join_names,
    p_value,
    signed,
    three_decimals,
    with_arrow,
)
from hf_wbc.comparison.further_scores import SCORES, FurtherScores
from hf_wbc.comparison.laboratory_share import LaboratoryShare
from hf_wbc.comparison.result_table import EvalSetting, ResultRow
from hf_wbc.comparison.statistics import Difference
from hf_wbc.evaluation.model_selection import RULES
from hf_wbc.text import plural

SEES = tuple(dict.fromkeys(rule.sees for rule in RULES))
MARKS = {"yes": " †", "maybe": " ‡", "no": ""}
MARK_NOTES = {
    "yes": "† The backbone was pre-trained on images of a laboratory of this direction; the score "
    "is no evidence of transfer to an unseen laboratory.",
    "maybe": "‡ It is not recorded what the backbone was pre-trained on, so it may have seen them.",
}
GIB = 2**30
MANY = 0.05
"""Fraction of resamples without some class above which the report warns."""


def headline_rows(comparison: Comparison) -> list[tuple[EvalSetting, list[ResultRow]]]:
    """Return the rows of each headline evaluation setting."""
    shown = [row for row in comparison.rows if row.setting.is_headline]
    return [(setting, list(group)) for setting, group in groupby(shown, lambda row: row.setting)]


def score_sections(comparison: Comparison) -> Iterator[Section]:
    """Yield a description of each headline setting, and a table for each kind of selection rule."""
    found = {(each.setting, each.backbone, each.sees): each for each in comparison.families}
    for setting, here in headline_rows(comparison):
        yield Section(heading(setting), paragraphs=tuple(_facts(setting, here)), is_short=True)
        for sees in SEES:
            members = [row for row in here if row.sees == sees]
            if members:
                yield _scores(members, here, sees, found, comparison.baseline)
        if len(here) > len({(row.name, row.backbone) for row in here}):
            yield _side_by_side(here)


LABELS = (
    "Macro-F1 on the same test images, by the number of target images whose labels the models were "
    "trained on; 0 is without any. Methods are ranked and tested within a column only."
)


def label_budget_section(comparison: Comparison) -> Section | None:
    """Return a table with a column for each number of target labels; None without any labels."""
    shown = [row for row in comparison.rows if row.setting.is_headline and row.targets]
    numbers = sorted({row.setting.num_target_labels for row in shown})
    if not any(numbers):
        return None
    scores: dict[tuple[str, ...], dict[int, list[str]]] = {}
    for row in shown:
        bare = replace(row.setting, num_target_labels=0)
        key = (heading(bare), row.method, row.backbone, row.rule)
        variant = f" ({row.variant})" if row.variant else ""
        text = f"{three_decimals(row.macro_f1)} [{row.low:.3f}, {row.high:.3f}]{variant}"
        scores.setdefault(key, {}).setdefault(row.setting.num_target_labels, []).append(text)
    cells = tuple(
        (*key, *(", ".join(each.get(number, ())) for number in numbers))
        for key, each in scores.items()
        if any(each)  # not all 0: the method has seen labels
    )
    headings = ("direction", "method", "network", "rule", *(f"{n} labels" for n in numbers))
    table = Table(headings, cells, 4, ("network", "rule"))
    return Section("By number of target labels", 2, (LABELS,), table, is_short=True)


def cost_section(comparison: Comparison) -> Section:
    """Return the hours, speed and memory of each method and network, over all directions."""
    shown = [row for _, here in headline_rows(comparison) for row in here]
    shown.sort(key=lambda row: (row.network, row.trained, row.method, row.device))
    cells = []
    for (network, how, method, device), group in groupby(
        shown, lambda row: (row.network, row.trained, row.method, row.device)
    ):
        alike = list(group)
        runs = {run.name: run.record["cost"] for row in alike for run in row.runs}
        cells.append(
            (
                method,
                f"{network}, {how}",
                device,
                str(len(runs)),
                f"{sum(cost['elapsed_s'] for cost in runs.values()) / 3600:.3f}",
                f"{fmean(cost['images_per_s'] for cost in runs.values()):.0f}",
                f"{max(cost['peak_memory_bytes'] for cost in runs.values()) / GIB:.2f}",
            )
        )
    headings = ("method", "network", "device", "runs", "hours", "images/s", "peak GiB")
    text = (
        "Total hours of all runs, from start to record; mean training speed over runs, in images "
        "per second; maximum memory of any process.",
    )
    return Section("Cost", paragraphs=text, table=Table(headings, tuple(cells), 3))


FURTHER = (
    "AUROC and AUPRC are means over the classes that occur (one-vs-one: over pairs of them); the "
    "calibration error has 15 bins of confidence. Brackets are 95 % bootstrap intervals over the "
    "stated unit, with their ends averaged over seeds."
)
FEATURES = (
    "Measured on the features of the test images of all domains of a run. Robustness index: among "
    "the nearest neighbors, same class from another laboratory against another class from the same "
    "laboratory; above 0.5 the class outweighs the laboratory. Drop: what a linear probe for the "
    "class loses when its training classes come from one laboratory each. Laboratory: balanced "
    "accuracy of predicting it from the features (PathoROB, arXiv:2507.17845)."
)


def optional_sections(comparison: Comparison) -> Iterator[Section]:
    """Yield the scores by number of labels, further scores, and what features hold, if any."""
    if labels := label_budget_section(comparison):
        yield labels
    if comparison.further_scores:
        yield _further_section(comparison.further_scores)
    if comparison.laboratory_shares:
        yield _features_section(comparison.laboratory_shares)


def _further_section(found: Sequence[FurtherScores]) -> Section:
    cells = tuple(
        (
            heading(each.setting),
            each.name,
            each.backbone,
            each.rule,
            *(
                f"{three_decimals(score)} [{low:.3f}, {high:.3f}]"
                if (score := each.scores[name]) is not None and ends is not None
                else ""
                for name, ends in each.intervals.items()
                for low, high in [ends or (0.0, 0.0)]
            ),
            each.unit,
        )
        for each in found
    )
    headings = ("direction", "method", "network", "rule", *SCORES.values(), "unit")
    wide = ("unit", "AUROC one-vs-one", "kappa", "network", "rule")
    return Section("Further scores", 2, (FURTHER,), Table(headings, cells, 4, wide), is_short=True)


def _features_section(found: Sequence[LaboratoryShare]) -> Section:
    cells = tuple(
        (
            with_arrow(each.direction),
            each.name,
            each.backbone,
            str(each.num_runs),
            three_decimals(each.robustness_index),
            three_decimals(each.support),
            "" if each.performance_drop is None else signed(each.performance_drop),
            three_decimals(each.laboratory_accuracy),
            three_decimals(each.laboratory_chance),
        )
        for each in found
    )
    headings = (
        "direction", "method", "network", "runs", "robustness index", "support", "drop",
        "laboratory", "chance",
    )  # fmt: skip
    wide = ("chance", "support", "runs", "network")
    table = Table(headings, cells, 3, wide)
    return Section("Laboratory and class in the features", 2, (FEATURES,), table, is_short=True)


def heading(setting: EvalSetting) -> str:
    """Return the direction, with the scored domain if it is ambiguous."""
    several = len(setting.targets) != 1
    return with_arrow(setting.direction) + (f", scored on {setting.domain}" if several else "")


def _facts(setting: EvalSetting, here: Sequence[ResultRow]) -> Iterator[str]:
    """Yield what the images of a setting are, and what distinguishes it from similar ones."""
    classes = plural(setting.num_classes, "class", "classes")
    chosen = f" ({', '.join(setting.classes)})" if setting.classes else ""
    merged = f"; merged: {', '.join(setting.merge)}" if setting.merge else ""
    images = plural(setting.num_images, "image")
    yield (
        f"{images} of {setting.domain}, {setting.split}; {classes}{chosen}{merged}; "
        f"fingerprint {setting.images[:8]}."
    )
    lacking = max(_lacking(run, setting) for row in here for run in row.runs)
    if lacking > MANY:
        yield (
            f"A class is so rare that {lacking:.3f} of the bootstrap resamples lack it and are "
            "scored without it: intervals and tests are approximate, and intervals are not "
            "centered on the score."
        )
    if len(backbones := {row.backbone for row in here}) == 1:
        yield f"Network: {backbones.pop()}."
    for mark in ("yes", "maybe"):
        if any(row.exposed == mark for row in here):
            yield MARK_NOTES[mark]


def _lacking(run: Run, setting: EvalSetting) -> float:
    scores = run.record["results"][setting.domain][setting.split]
    return float(scores["intervals"]["lacking_a_class"])


def _scores(
    members: Sequence[ResultRow],
    here: Sequence[ResultRow],
    sees: str,
    families: dict[tuple[EvalSetting, str, str], ComparisonFamily],
    baseline: str,
) -> Section:
    several = len({row.backbone for row in here}) > 1
    against = dict(
        pair
        for backbone in {row.backbone for row in members}
        for pair in _against(families[members[0].setting, backbone, sees])
    )
    names = ("method", *(("network",) if several else ()), "rule")
    tests = ("Δ", "Δ 95 %", "p") if against else ()
    headings = (
        *names, "macro-F1 [95 %]", "± seeds", "accuracy", "balanced", "worst class", "its F1",
        "other lineage", "critical", "seeds", *tests,
    )  # fmt: skip
    cells = []
    best = max(row.macro_f1 for row in members)
    for row in members:
        low, high = three_decimals(row.low), three_decimals(row.high)
        macro = f"{three_decimals(row.macro_f1)} [{low}, {high}]"
        tested = against.get(id(row))
        cells.append(
            (
                row.name + MARKS[row.exposed],
                *((row.backbone,) if several else ()),
                row.rule,
                Strong(macro) if row.macro_f1 == best else macro,
                three_decimals(row.spread),
                three_decimals(row.accuracy),
                three_decimals(row.balanced_accuracy),
                row.worst_class,
                three_decimals(row.worst_f1),
                three_decimals(row.lineage_error),
                three_decimals(row.consequences["critical"]),
                str(len(row.seeds)),
                *(_test_cells(tested) if tests else ()),
            )
        )
    text = [SAW[sees]]
    if against:
        text.append(
            f"Δ is the difference from {baseline} on the same network; * marks significant ones."
        )
    untested = sorted(
        {name for row in members for name in families[row.setting, row.backbone, sees].untested}
    )
    if untested:
        text.append(f"Not tested, because predictions are missing: {join_names(untested)}.")
    wide = (
        "Δ 95 %", "its F1", "worst class", "balanced", "± seeds", "seeds", "p", "accuracy",
        "other lineage", "critical", "rule",
    )  # fmt: skip
    table = Table(headings, tuple(cells), len(names), wide)
    return Section(TITLES[sees], 3, (" ".join(text),), table, is_short=True)


TITLES = {
    "no target": "Selected without the target",
    "unlabeled target": "Selected by unlabeled target images",
    "target labels": "Selected by target labels: not a valid result",
}
SAW = {
    "no target": "The rules that selected these weights saw nothing of the target.",
    "unlabeled target": "The rules that selected these weights saw target images, but no labels.",
    "target labels": "Oracle: the rule that selected these weights saw target labels, which are "
    "not available in practice. The scores show what better selection could gain.",
}


def _against(family: ComparisonFamily) -> Iterator[tuple[int, Difference]]:
    for difference in family.against:
        yield id(family.entries[difference.one]), difference


def _test_cells(tested: Difference | None) -> tuple[str, str, str]:
    if tested is None:
        return "", "", ""
    value = f"{signed(tested.value)}{'*' if tested.is_significant else ''}"
    return value, difference_interval(tested.low, tested.high), p_value(tested.p_holm)


def _side_by_side(here: Sequence[ResultRow]) -> Section:
    """Return the macro-F1 of each method under each selection rule."""
    rules = [rule.name for rule in RULES if rule.name in {row.rule for row in here}]
    scores: dict[tuple[str, str], dict[str, str]] = {}
    for row in here:
        scores.setdefault((row.name, row.backbone), {})[row.rule] = three_decimals(row.macro_f1)
    cells = tuple((*key, *(each.get(rule, "") for rule in rules)) for key, each in scores.items())
    oracle = " The oracle saw target labels: not a valid result." if "oracle" in rules else ""
    text = (f"Macro-F1 on the test images, by the rule that selected the weights.{oracle}",)
    table = Table(("method", "network", *rules), cells, 2)
    return Section("Selection rules side by side", 3, text, table)
