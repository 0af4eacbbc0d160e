"""Regret of selection rules: what each would have chosen, compared with the best choice.

Every evaluation contains the value of every rule, so rules can be compared afterwards, even those
that a run was not trained with. Their choices are evaluated with the labeled validation images of
the target, which only runs with `--oracle` use: the regret shows how good a rule is, and is not a
valid result of a method.

If a method has a second phase, the choice is among the evaluations of that phase, as in training.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from hf_wbc.comparison.collect import Run
from hf_wbc.comparison.result_table import EvalSetting, ResultRow
from hf_wbc.evaluation.model_selection import RULES, evaluate_criteria

Candidate = tuple[ResultRow, Run]
Verdict = Mapping[str, Any]
ORDER = {rule.name: place for place, rule in enumerate(RULES)}
WITHIN_RUNS_ONLY = ("last",)
"""Rules whose values are not comparable between runs."""


@dataclass(frozen=True)
class WithinRunRegret:
    """Choices of a rule among the evaluations of one run, averaged over several runs."""

    setting: EvalSetting
    method: str
    """Method with its variant, if it has several; empty for all methods together."""
    network: str
    """Network and how it was trained; empty for all networks together."""
    rule: str
    sees: str
    num_runs: int
    correlation: float | None
    """Spearman correlation of the rule and the oracle; None if no run has two values."""
    score: float
    """Oracle macro-F1 of the choice, on the validation images of the target."""
    regret: float
    """Gap to the best evaluation of the run."""


@dataclass(frozen=True)
class AmongRunsRegret:
    """Choice of a rule among all runs of a direction and a seed, over all methods."""

    setting: EvalSetting
    seed: int
    rule: str
    sees: str
    num_candidates: int
    method: str
    network: str
    step: int
    score: float
    """Oracle macro-F1 of the choice, on the validation images of the target."""
    best_method: str
    regret: float
    """Gap to the best evaluation of all runs."""
    test_score: float | None
    """Macro-F1 on the test images of the setting; None unless the run kept the chosen weights."""
    test_regret: float | None
    """Gap to the best candidate on the test images."""


@dataclass(frozen=True)
class RuleRegrets:
    """Regret of all rules in all directions."""

    within: tuple[WithinRunRegret, ...]
    """Averages over all runs of an evaluation setting."""
    by_method: tuple[WithinRunRegret, ...]
    """Averages over the seeds of each method and network."""
    among: tuple[AmongRunsRegret, ...]
    num_runs: int
    """Number of runs with oracle scores."""
    num_without: int
    """Number of runs without oracle scores, which are excluded."""


def rule_regrets(rows: Sequence[ResultRow]) -> RuleRegrets:
    """Evaluate the choices of every rule in each headline setting.

    Runs that differ only in their own selection rule count once.
    """
    within: list[WithinRunRegret] = []
    by_method: list[WithinRunRegret] = []
    among: list[AmongRunsRegret] = []
    headline = [row for row in rows if row.setting.is_headline and row.targets]
    with_oracle: set[str] = set()
    without: set[str] = set()
    for setting in sorted({row.setting for row in headline}):
        candidates: list[Candidate] = []
        for row, run in _trainings([row for row in headline if row.setting == setting]):
            (with_oracle if run.config.eval.oracle else without).add(run.name)
            if run.config.eval.oracle:
                candidates.append((row, run))
        verdicts = [evaluate_criteria(last_phase(run)) for _, run in candidates]
        within += _within(setting, [("", "")] * len(candidates), verdicts)
        by_method += _within(setting, [(row.backbone, row.name) for row, _ in candidates], verdicts)
        for seed in sorted({run.seed for _, run in candidates}):
            among += _among(setting, seed, [each for each in candidates if each[1].seed == seed])
    return RuleRegrets(
        tuple(within), tuple(by_method), tuple(among), len(with_oracle), len(without)
    )


def last_phase(run: Run) -> list[Mapping[str, Any]]:
    """Return the evaluations among which the kept weights were chosen."""
    history: Sequence[Mapping[str, Any]] = run.record["history"]
    return [row for row in history if row["phase"] == history[-1]["phase"]]


def _trainings(rows: Sequence[ResultRow]) -> list[Candidate]:
    """Return one of the runs that differ only in the rule that selected the weights."""
    found: dict[tuple[Any, ...], Candidate] = {}
    for row in rows:
        for run in row.runs:
            history = run.record["history"]
            key = (row.name, row.backbone, run.seed, history[-1]["step"], len(history))
            found.setdefault(key, (row, run))
    return sorted(found.values(), key=lambda each: (each[0].backbone, each[0].name, each[1].name))


def _within(
    setting: EvalSetting,
    names: Sequence[tuple[str, str]],
    verdicts: Sequence[Mapping[str, Verdict]],
) -> list[WithinRunRegret]:
    """Average over the runs of each network and method, by rule."""
    found: dict[tuple[str, str, str], list[Verdict]] = {}
    for (network, method), by_rule in zip(names, verdicts, strict=True):
        for rule, verdict in by_rule.items():
            found.setdefault((network, method, rule), []).append(verdict)
    return [
        WithinRunRegret(
            setting=setting,
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


def _among(
    setting: EvalSetting, seed: int, candidates: Sequence[Candidate]
) -> list[AmongRunsRegret]:
    owners = [each for each in candidates for _ in last_phase(each[1])]
    verdicts = evaluate_criteria(
        [evaluation for _, run in candidates for evaluation in last_phase(run)]
    )
    tests = {run.name: kept_macro_f1(run, setting) for _, run in candidates}
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
                setting=setting,
                seed=seed,
                rule=name,
                sees=verdict["sees"],
                num_candidates=len(candidates),
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


def kept_macro_f1(run: Run, setting: EvalSetting) -> float:
    """Return the macro-F1 of the weights that the run kept."""
    return float(run.record["results"][setting.domain][setting.split]["macro_f1"])


def mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the known values; None if there are none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
