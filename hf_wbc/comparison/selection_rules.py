"""What each selection rule would have chosen, and what that lost against the best there was.

Every evaluation holds every rule's value, so the rules that a run was not trained with can be asked
afterwards. Their choices are judged by the target's labelled validation images, which only runs
with `--oracle` looked at: this tells how good a rule is, and is no result of a method.

Where a method has a second phase, the choice is among its evaluations, as it was in training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hf_wbc.comparison.collect import Run
from hf_wbc.comparison.table import EvalSetting, ResultRow
from hf_wbc.evaluation.model_selection import RULES, evaluate_criteria

Candidate = tuple[ResultRow, Run]
Verdict = Mapping[str, Any]
ORDER = {rule.name: place for place, rule in enumerate(RULES)}
WITHIN_RUNS_ONLY = ("last",)
"""Rules whose value says nothing of one run against another."""


@dataclass(frozen=True)
class WithinRunRegret:
    """A rule's choices among the evaluations of one run, on average over several runs."""

    sheet: EvalSetting
    method: str
    """With its variant, where it has several; empty for all methods together."""
    network: str
    """And how much of it learned; empty for all networks together."""
    rule: str
    sees: str
    num_runs: int
    correlation: float | None
    """Spearman's, of the rule's values with the oracle's; None where no run has two values."""
    score: float
    """Oracle's macro-F1 of what the rule chose: of the target's validation images."""
    regret: float
    """How far that is from the best evaluation of the run."""


@dataclass(frozen=True)
class AmongRunsRegret:
    """A rule's choice among all runs of a direction and a seed, whatever their method."""

    sheet: EvalSetting
    seed: int
    rule: str
    sees: str
    num_candidates: int
    method: str
    network: str
    step: int
    score: float
    """Oracle's macro-F1 of the choice: of the target's validation images."""
    best_method: str
    regret: float
    """How far the choice is from the best evaluation of all runs."""
    test_score: float | None
    """Macro-F1 on the sheet's test images, where the run kept these very weights."""
    test_regret: float | None
    """How far that is from the best candidate's."""


@dataclass(frozen=True)
class JudgedRules:
    """All rules on all directions."""

    within: tuple[WithinRunRegret, ...]
    """Over all runs of a sheet."""
    by_method: tuple[WithinRunRegret, ...]
    """Over the seeds of each method and network."""
    among: tuple[AmongRunsRegret, ...]
    num_runs: int
    """Trainings that looked at the oracle's score."""
    num_without: int
    """Those that did not, and are not in here."""


def judge_rules(rows: Sequence[ResultRow]) -> JudgedRules:
    """Every rule's choices, by headline sheet; a training is asked once, whatever its own rule."""
    within: list[WithinRunRegret] = []
    by_method: list[WithinRunRegret] = []
    among: list[AmongRunsRegret] = []
    headline = [row for row in rows if row.sheet.is_headline and row.targets]
    asked: set[str] = set()
    without: set[str] = set()
    for sheet in sorted({row.sheet for row in headline}):
        judged: list[Candidate] = []
        for row, run in _trainings([row for row in headline if row.sheet == sheet]):
            (asked if run.config.eval.oracle else without).add(run.name)
            if run.config.eval.oracle:
                judged.append((row, run))
        verdicts = [evaluate_criteria(last_phase(run)) for _, run in judged]
        within += _within(sheet, [("", "")] * len(judged), verdicts)
        by_method += _within(sheet, [(row.backbone, row.name) for row, _ in judged], verdicts)
        for seed in sorted({run.seed for _, run in judged}):
            among += _among(sheet, seed, [each for each in judged if each[1].seed == seed])
    return JudgedRules(tuple(within), tuple(by_method), tuple(among), len(asked), len(without))


def last_phase(run: Run) -> list[Mapping[str, Any]]:
    """The evaluations among which the kept weights were chosen."""
    history: Sequence[Mapping[str, Any]] = run.record["history"]
    return [row for row in history if row["phase"] == history[-1]["phase"]]


def _trainings(rows: Sequence[ResultRow]) -> list[Candidate]:
    """One run of those that differ only in the rule that picked the weights."""
    found: dict[tuple[Any, ...], Candidate] = {}
    for row in rows:
        for run in row.runs:
            history = run.record["history"]
            key = (row.name, row.backbone, run.seed, history[-1]["step"], len(history))
            found.setdefault(key, (row, run))
    return sorted(found.values(), key=lambda each: (each[0].backbone, each[0].name, each[1].name))


def _within(
    sheet: EvalSetting, names: Sequence[tuple[str, str]], judged: Sequence[Mapping[str, Verdict]]
) -> list[WithinRunRegret]:
    """Means over the runs of each network and method, by rule."""
    found: dict[tuple[str, str, str], list[Verdict]] = {}
    for (network, method), by_rule in zip(names, judged, strict=True):
        for rule, verdict in by_rule.items():
            found.setdefault((network, method, rule), []).append(verdict)
    return [
        WithinRunRegret(
            sheet=sheet,
            method=method,
            network=network,
            rule=rule,
            sees=verdicts[0]["sees"],
            num_runs=len(verdicts),
            correlation=mean([verdict["correlation"] for verdict in verdicts]),
            score=fmean(verdict["score"] for verdict in verdicts),
            regret=fmean(verdict["regret"] for verdict in verdicts),
        )
        for (network, method, rule), verdicts in sorted(
            found.items(), key=lambda item: (*item[0][:2], ORDER[item[0][2]])
        )
    ]


def _among(sheet: EvalSetting, seed: int, judged: Sequence[Candidate]) -> list[AmongRunsRegret]:
    owners = [each for each in judged for _ in last_phase(each[1])]
    verdicts = evaluate_criteria(
        [evaluation for _, run in judged for evaluation in last_phase(run)]
    )
    tests = {run.name: kept_macro_f1(run, sheet) for _, run in judged}
    best = owners[verdicts["oracle"]["row"]][0]
    found = []
    for name, verdict in sorted(verdicts.items(), key=lambda item: ORDER[item[0]]):
        if name in WITHIN_RUNS_ONLY:
            continue
        row, run = owners[verdict["row"]]
        kept = run.record["selection"]["step"] == verdict["step"]
        test = tests[run.name] if kept else None
        found.append(
            AmongRunsRegret(
                sheet=sheet,
                seed=seed,
                rule=name,
                sees=verdict["sees"],
                num_candidates=len(judged),
                method=row.name,
                network=row.backbone,
                step=verdict["step"],
                score=verdict["score"],
                best_method=best.name,
                regret=verdict["regret"],
                test_score=test,
                test_regret=None if test is None else max(tests.values()) - test,
            )
        )
    return found


def kept_macro_f1(run: Run, sheet: EvalSetting) -> float:
    """Of the weights that the run kept."""
    return float(run.record["results"][sheet.domain][sheet.split]["macro_f1"])


def mean(values: Sequence[float | None]) -> float | None:
    """Of those that there are; None when there are none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
