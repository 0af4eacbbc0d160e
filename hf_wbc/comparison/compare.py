"""Compare runs: the table of scores, significance tests, and the choices of selection rules.

Methods are tested against each other if they use the same network, are scored on the same images,
and their weights are selected by rules that see the same of the target. A method must not win
because its rule sees more, or because it was trained on labels of the target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from hf_wbc.comparison.collect import Collection, Problem, Run
from hf_wbc.comparison.further_scores import FurtherScores
from hf_wbc.comparison.laboratory_share import LaboratoryShare
from hf_wbc.comparison.predictions import BootstrapScores, bootstrap_setting, read_predictions
from hf_wbc.comparison.result_table import EvalSetting, ResultRow, result_rows
from hf_wbc.comparison.selection_rules import RuleRegrets, rule_regrets
from hf_wbc.comparison.statistics import Difference, Ranking, differences, rank
from hf_wbc.text import did_you_mean

BASELINE = "source_only"
NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class ComparisonFamily:
    """Rows that are tested against each other by a paired bootstrap on the same images."""

    setting: EvalSetting
    backbone: str
    sees: str
    """What the rules that selected the weights see of the target."""
    entries: tuple[ResultRow, ...]
    names: tuple[str, ...]
    """Names of the entries."""
    baseline: int | None
    """Index of the baseline among the entries; None if it is missing."""
    against: tuple[Difference, ...]
    """Difference of each entry from the baseline, corrected for these tests only."""
    pairs: tuple[Difference, ...]
    """Differences of all pairs, corrected for all of them."""
    untested: tuple[str, ...]
    """Names of rows for which the predictions of a run are missing or damaged."""
    unit: str
    """Unit of the bootstrap: image or group."""


@dataclass(frozen=True)
class RankTest:
    """Methods ranked over directions and seeds."""

    backbone: str
    sees: str
    num_target_labels: int
    """Target labels that the methods were trained on."""
    blocks: tuple[tuple[EvalSetting, int], ...]
    """Evaluation settings and seeds."""
    left_out_blocks: tuple[tuple[EvalSetting, int], ...]
    """Blocks with results of fewer than half of the methods."""
    left_out: tuple[str, ...]
    """Methods that lack the result of a block."""
    ranking: Ranking | None
    """None if there are too few methods or blocks."""

    @property
    def known(self) -> str:
        """What rules and training saw of the target."""
        labels = f", {self.num_target_labels} labels" if self.num_target_labels else ""
        return f"{self.sees}{labels}"


@dataclass(frozen=True)
class Comparison:
    """Results of comparing a collection of runs."""

    num_runs: int
    rows: tuple[ResultRow, ...]
    families: tuple[ComparisonFamily, ...]
    rank_tests: tuple[RankTest, ...]
    rule_regrets: RuleRegrets
    problems: tuple[Problem, ...]
    num_resamples: int
    baseline: str
    ceiling: Mapping[str, Any] | None = None
    """Agreement between examiners, as returned by `noise_ceiling`, if requested."""
    laboratory_shares: tuple[LaboratoryShare, ...] = ()
    """What the features hold of class and laboratory, if requested."""
    further_scores: tuple[FurtherScores, ...] = ()
    """MCC, kappa, AUROC, AUPRC and calibration error, if requested."""


def compare(
    collection: Collection,
    baseline: str = BASELINE,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare the runs of a collection.

    The result does not depend on the location or the order of the run folders.

    Args:
        collection: Runs to compare.
        baseline: Method that all others are tested against.
        num_resamples: Number of bootstrap resamples, at least 2.
        seed: Seed of the random numbers.

    Raises:
        ValueError: If no run is finished, there are fewer than two resamples, or no run uses the
            baseline and it is not the default.
    """
    if num_resamples < 2:
        raise ValueError(f"num_resamples is {num_resamples}; it must be at least 2")
    if not collection.runs:
        details = "; ".join(f"{each.place} is {each.what}" for each in collection.problems[:3])
        raise ValueError(
            f"none of the {len(collection.problems)} folders contains a finished run: {details}"
        )
    found = result_rows(collection.runs)
    methods = sorted({row.method for row in found})
    if baseline not in methods and baseline != BASELINE:
        raise ValueError(
            f"no run uses the baseline {baseline!r}; {did_you_mean(baseline, methods)}"
        )
    families, problems = _families(found, baseline, num_resamples, seed)
    problems = sorted({*collection.problems, *problems}, key=lambda each: (each.place, each.what))
    return Comparison(
        num_runs=len(collection.runs),
        rows=tuple(found),
        families=tuple(families),
        rank_tests=tuple(_rank_tests(found)),
        rule_regrets=rule_regrets(found),
        problems=tuple(problems),
        num_resamples=num_resamples,
        baseline=baseline,
    )


def labels(found: Sequence[ResultRow]) -> list[str]:
    """Return the names of rows in one family or ranking, with the rule if a method has several."""
    rules: dict[str, set[str]] = {}
    for row in found:
        rules.setdefault(row.name, set()).add(row.rule)
    return [f"{row.name} @ {row.rule}" if len(rules[row.name]) > 1 else row.name for row in found]


def _families(
    found: Sequence[ResultRow], baseline: str, num_resamples: int, seed: int
) -> tuple[list[ComparisonFamily], list[Problem]]:
    headline = [row for row in found if row.setting.is_headline]
    tables, problems = read_predictions(_runs(headline))
    families = []
    for setting in dict.fromkeys(row.setting for row in headline):
        here = [row for row in headline if row.setting == setting]
        resampled, contradicting = bootstrap_setting(
            setting, _runs(here), tables, num_resamples, seed
        )
        problems += contradicting
        for backbone, sees in dict.fromkeys((row.backbone, row.sees) for row in here):
            members = [row for row in here if (row.backbone, row.sees) == (backbone, sees)]
            families.append(_family(members, resampled, baseline))
    return families, problems


def _family(
    members: Sequence[ResultRow], resampled: BootstrapScores, baseline: str
) -> ComparisonFamily:
    known = resampled.scores
    entries = [row for row in members if all(run.name in known for run in row.runs)]
    names = dict(zip(map(id, members), labels(members), strict=True))
    baseline_index = next((i for i, row in enumerate(entries) if row.method == baseline), None)
    against, pairs = [], []
    if len(entries) > 1:
        drawn = np.stack(
            [np.mean([known[run.name] for run in row.runs], axis=0) for row in entries], axis=1
        )
        observed = np.array([row.macro_f1 for row in entries])
        pairs = differences(drawn, observed, list(combinations(range(len(entries)), 2)))
        if baseline_index is not None:
            others = [(i, baseline_index) for i in range(len(entries)) if i != baseline_index]
            against = differences(drawn, observed, others)
    return ComparisonFamily(
        setting=members[0].setting,
        backbone=members[0].backbone,
        sees=members[0].sees,
        entries=tuple(entries),
        names=tuple(names[id(row)] for row in entries),
        baseline=baseline_index,
        against=tuple(against),
        pairs=tuple(pairs),
        untested=tuple(names[id(row)] for row in members if row not in entries),
        unit=resampled.unit,
    )


def _rank_tests(found: Sequence[ResultRow]) -> list[RankTest]:
    headline = [row for row in found if row.setting.is_headline]
    groups: dict[tuple[str, str, int], list[ResultRow]] = {}
    for row in headline:
        key = (row.backbone, row.sees, row.setting.num_target_labels)
        groups.setdefault(key, []).append(row)
    return [_rank_test(members) for members in groups.values()]


def _rank_test(members: Sequence[ResultRow]) -> RankTest:
    scores: dict[str, dict[tuple[EvalSetting, int], float]] = {}
    for name, row in zip(labels(members), members, strict=True):
        for run in row.runs:
            entry = run.record["results"][row.domain][row.split]
            scores.setdefault(name, {})[row.setting, run.seed] = entry["macro_f1"]
    all_blocks = sorted({block for each in scores.values() for block in each})
    num = {block: sum(block in each for each in scores.values()) for block in all_blocks}
    blocks = [block for block in all_blocks if 2 * num[block] >= len(scores)]
    names = sorted(name for name, each in scores.items() if all(block in each for block in blocks))
    matrix = np.array([[scores[name][block] for name in names] for block in blocks])
    enough = len(names) >= 3 and len(blocks) >= 2
    return RankTest(
        backbone=members[0].backbone,
        sees=members[0].sees,
        num_target_labels=members[0].setting.num_target_labels,
        blocks=tuple(blocks),
        left_out_blocks=tuple(block for block in all_blocks if block not in blocks),
        left_out=tuple(sorted(set(scores) - set(names))),
        ranking=rank(names, matrix) if enough else None,
    )


def _runs(found: Sequence[ResultRow]) -> list[Run]:
    """Return the runs of the rows, without duplicates."""
    return list({run.name: run for row in found for run in row.runs}.values())
