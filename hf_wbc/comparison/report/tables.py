"""Text and tables of the report, derived from a comparison."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from hf_wbc.comparison.compare import Comparison, ComparisonFamily
from hf_wbc.comparison.report.figures import ReportSection
from hf_wbc.comparison.report.mistakes import BY_LABELS
from hf_wbc.comparison.result_table import EvalSetting, ResultRow
from hf_wbc.comparison.selection_rules import AmongRunsRegret, WithinRunRegret
from hf_wbc.comparison.statistics import Difference

BLAST_RATE = "0.1"
"""Fraction of the cells that are sent to review."""
FEW_IMAGES = 10
"""Number of test images of a class below which its F1 is not meaningful."""


@dataclass(frozen=True)
class RuleChoice:
    """Choices of a selection rule among all runs of a direction, over the seeds."""

    rule: str
    sees: str
    methods: tuple[str, ...]
    """Chosen method for each seed."""
    score: float
    regret: float
    test_score: float | None
    """Mean over seeds; None unless the chosen weights were kept in every case."""
    test_regret: float | None


@dataclass(frozen=True)
class RuleTable:
    """Choices of all selection rules in one direction."""

    setting: EvalSetting
    choices: tuple[RuleChoice, ...]
    within: tuple[WithinRunRegret, ...]


def against(comparison: Comparison, section: ReportSection) -> dict[int, Difference]:
    """Return the tested difference of each row of a section from the baseline, by row index."""
    found = {}
    for family in families(comparison, section):
        for difference in family.against:
            entry = family.entries[difference.one]
            place = next(i for i, row in enumerate(section.rows) if row is entry)
            found[place] = difference
    return found


def families(comparison: Comparison, section: ReportSection) -> list[ComparisonFamily]:
    """Return the test families that contain the rows of a section."""
    key = section.setting, section.backbone
    return [each for each in comparison.families if (each.setting, each.backbone) == key]


def brief(comparison: Comparison, section: ReportSection) -> list[str]:
    """Summarize the result of a section in a few sentences."""
    rows, names = section.rows, section.names
    found = []
    base = next((i for i, row in enumerate(rows) if row.method == comparison.baseline), None)
    if base is not None:
        found.append(f"{names[base]} has {_score(rows[base])}.")
    tested = against(comparison, section)
    if tested:
        better = sum(each.is_significant and each.value > 0 for each in tested.values())
        worse = sum(each.is_significant and each.value < 0 for each in tested.values())
        text = f"Of {len(tested)} others, {better} are significantly better and {worse} worse"
        found.append(f"{text} (paired bootstrap, Holm correction, 0.05).")
    for chosen in section.chosen:
        if not chosen.by_labels and chosen.row.method != comparison.baseline:
            found.append(f"{chosen.name}, {chosen.why[0]}, has {_score(chosen.row)}.")
    results = [i for i, row in enumerate(rows) if row.sees != "target labels"]
    if len(results) > 1:
        how = f" ({BY_LABELS})" if section.setting.targets else ""
        best = results[0]
        found.append(f"The best of all is {names[best]} with {_score(rows[best])}{how}.")
    return found


def _score(row: ResultRow) -> str:
    return f"macro-F1 {row.macro_f1:.3f} [{row.low:.3f}, {row.high:.3f}]"


def other_settings(comparison: Comparison) -> list[tuple[EvalSetting, list[ResultRow]]]:
    """Return the rows of all settings besides the headline ones."""
    others = [row for row in comparison.rows if not row.setting.is_headline]
    return [
        (setting, [row for row in others if row.setting == setting])
        for setting in dict.fromkeys(row.setting for row in others)
    ]


def rule_tables(comparison: Comparison) -> list[RuleTable]:
    """Return the choices of every selection rule, by direction."""
    regrets = comparison.rule_regrets
    found = []
    for setting in dict.fromkeys(each.setting for each in regrets.within):
        here = [each for each in regrets.among if each.setting == setting]
        names = dict.fromkeys(each.rule for each in here)
        choices = [_choice([each for each in here if each.rule == name]) for name in names]
        within = tuple(each for each in regrets.within if each.setting == setting)
        found.append(RuleTable(setting, tuple(choices), within))
    return found


def _choice(seeds: Sequence[AmongRunsRegret]) -> RuleChoice:
    tests = [each.test_score for each in seeds if each.test_score is not None]
    regrets = [each.test_regret for each in seeds if each.test_regret is not None]
    whole = len(tests) == len(regrets) == len(seeds)
    return RuleChoice(
        rule=seeds[0].rule,
        sees=seeds[0].sees,
        methods=tuple(each.method for each in seeds),
        score=fmean(each.score for each in seeds),
        regret=fmean(each.regret for each in seeds),
        test_score=fmean(tests) if whole else None,
        test_regret=fmean(regrets) if whole else None,
    )


@dataclass(frozen=True)
class AbstentionSummary:
    """Calibration and abstention of a row on the images of its setting, averaged over seeds."""

    name: str
    temperature: float
    ece_before: float
    ece_after: float
    coverage: float
    """Coverage of the marginal conformal sets, nominally 0.9."""
    set_size: float
    aurc: float
    num_blasts: int
    blasts_found: float | None
    """Recall of blasts if BLAST_RATE of the cells are reviewed."""


def abstention_summaries(section: ReportSection) -> list[AbstentionSummary]:
    """Summarize the recorded calibration and abstention of each row; skip rows without records."""
    found = []
    for name, row in zip(section.names, section.rows, strict=True):
        calibrations = [run.record.get("calibration") for run in row.runs]
        setting = section.setting
        scores = [
            c["domains"].get(setting.domain, {}).get(setting.split) for c in calibrations if c
        ]
        if not scores or len(scores) < len(row.runs) or None in scores:
            continue
        sets = [score["conformal"]["marginal"] for score in scores]
        blasts = [score["review"]["myeloblast"]["ranking"] for score in scores]
        found.append(
            AbstentionSummary(
                name=name,
                temperature=fmean(c["temperature"] for c in calibrations if c),
                ece_before=fmean(score["ece"]["before"] for score in scores),
                ece_after=fmean(score["ece"]["after"] for score in scores),
                coverage=fmean(each["coverage"] for each in sets),
                set_size=fmean(each["mean_size"] for each in sets),
                aurc=fmean(score["aurc"] for score in scores),
                num_blasts=blasts[0]["num"] if blasts[0] else 0,
                blasts_found=None
                if None in blasts
                else fmean(each["recall_at_rate"][BLAST_RATE] for each in blasts),
            )
        )
    return found


def limits(comparison: Comparison, found: Sequence[ReportSection]) -> list[str]:
    """Return the limitations of this comparison."""
    headline = [row for row in comparison.rows if row.setting.is_headline]
    sentences = [*_exposure(headline)]
    for section in found:
        sentences += _small_sets(section)
    if any(row.split == "transductive" for row in comparison.rows):
        sentences.append(
            "Rows marked T are transductive: scored on all images of a target, including those "
            "used without labels for adaptation and selection. They vary less if there are few "
            "test images, but are not results on unseen images."
        )
    num = sum(row.sees == "target labels" for row in headline)
    if num:
        sentences.append(
            f"{num} row{'s' if num > 1 else ''} marked O: weights selected by target labels "
            "(oracle). That is an upper bound, not a valid result."
        )
    if comparison.rule_regrets.num_runs:
        sentences.append(
            f"{comparison.rule_regrets.num_runs} runs scored labeled validation images of the "
            "target at every evaluation, only to evaluate selection rules afterwards; their "
            "weights were selected without them."
        )
    units = {family.unit for family in comparison.families if family.entries}
    if "image" in units:
        sentences.append(
            "Intervals and tests resample single images, because patients are unknown. Cells of "
            "one patient are similar, so the intervals are too narrow."
        )
    fewest = min((len(row.seeds) for row in headline), default=0)
    if fewest < 3:
        sentences.append(f"Some rows have only {fewest} seed{'s' if fewest > 1 else ''}.")
    sentences.append(
        "Scores are averaged over seeds, and intervals are over images: a significant difference "
        "holds for these training runs."
    )
    return sentences


def _exposure(headline: Sequence[ResultRow]) -> list[str]:
    found = []
    for mark, kind, text in (
        ("†", "yes", "were pre-trained on images of a domain of the direction"),
        ("‡", "maybe", "may have been pre-trained on such images: this is not recorded"),
    ):
        networks = sorted({row.network for row in headline if row.exposed == kind})
        if networks:
            found.append(f"Networks marked {mark} {text}: {', '.join(networks)}.")
    return found


def _small_sets(section: ReportSection) -> list[str]:
    """Return the classes with few or no images in a test set."""
    setting = section.setting
    scores = section.rows[0].runs[0].record["results"][setting.domain][setting.split]
    support = {name: facts["support"] for name, facts in scores["per_class"].items()}
    few = [f"{n.replace('_', ' ')} {k}" for n, k in support.items() if k < FEW_IMAGES]
    if not few:
        return []
    return [
        f"The test set of {setting.domain} has {setting.num_images:,} images of "
        f"{setting.num_classes} classes, some of them rare: {', '.join(few)}. A single image "
        "changes macro-F1 noticeably."
    ]


def versions(comparison: Comparison) -> str:
    """Return the versions of the packages that the runs used."""
    runs = {run.name: run for row in comparison.rows for run in row.runs}.values()
    found: dict[str, set[str]] = {}
    for run in runs:
        for name, version in run.record["packages"].items():
            found.setdefault(name, set()).add(str(version))
    return ", ".join(f"{name} {' and '.join(sorted(each))}" for name, each in found.items())
