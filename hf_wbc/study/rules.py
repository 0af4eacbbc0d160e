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

from hf_wbc.evaluation.judge import judge
from hf_wbc.evaluation.selection import RULES
from hf_wbc.study.collect import Run
from hf_wbc.study.table import Sheet, sheets
from hf_wbc.study.variants import decisions, trained

ORDER = {rule.name: place for place, rule in enumerate(RULES)}
WITHIN_RUNS_ONLY = ("last",)
"""Rules whose value says nothing of one run against another."""


@dataclass(frozen=True)
class Within:
    """A rule's choices among the evaluations of one run, on average over the runs."""

    sheet: Sheet
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
class Among:
    """A rule's choice among all runs of a direction and a seed, whatever their method."""

    sheet: Sheet
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
class Judged:
    """All rules on all directions."""

    within: tuple[Within, ...]
    among: tuple[Among, ...]
    num_runs: int
    """Trainings that looked at the oracle's score."""
    num_without: int
    """Those that did not, and are not in here."""


def judge_rules(runs: Sequence[Run]) -> Judged:
    """Every rule's choices, by headline sheet; a training is asked once, whatever its own rule."""
    within: list[Within] = []
    among: list[Among] = []
    fields: dict[Sheet, list[Run]] = {}
    num_without = 0
    for run in _trainings(runs):
        if not run.targets:
            continue
        if not run.config["oracle"]:
            num_without += 1
            continue
        for sheet, _ in sheets(run):
            if sheet.is_headline:
                fields.setdefault(sheet, []).append(run)
    for sheet, field in sorted(fields.items()):
        within += _within(sheet, field)
        for seed in sorted({run.seed for run in field}):
            among += _among(sheet, seed, [run for run in field if run.seed == seed])
    num_runs = len({run.name for field in fields.values() for run in field})
    return Judged(tuple(within), tuple(among), num_runs, num_without)


def last_phase(run: Run) -> list[Mapping[str, Any]]:
    """The evaluations among which the kept weights were chosen."""
    history: Sequence[Mapping[str, Any]] = run.record["history"]
    return [row for row in history if row["phase"] == history[-1]["phase"]]


def _trainings(runs: Sequence[Run]) -> list[Run]:
    """One run of those that differ only in the rule that picked the weights."""
    found: dict[tuple[Any, ...], Run] = {}
    for run in runs:
        history = run.record["history"]
        key = (
            run.sources, run.targets, run.network, trained(run), run.method, run.seed,
            tuple(run.config["merge"]), tuple(run.config["classes"]), bool(run.config["oracle"]),
            repr(sorted(decisions(run).items())), history[-1]["step"], len(history),
        )  # fmt: skip
        found.setdefault(key, run)
    return list(found.values())


def _within(sheet: Sheet, runs: Sequence[Run]) -> list[Within]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        for name, verdict in judge(last_phase(run)).items():
            found.setdefault(name, []).append(verdict)
    return [
        Within(
            sheet=sheet,
            rule=name,
            sees=verdicts[0]["sees"],
            num_runs=len(verdicts),
            correlation=_mean([v["correlation"] for v in verdicts if v["correlation"] is not None]),
            score=fmean(verdict["score"] for verdict in verdicts),
            regret=fmean(verdict["regret"] for verdict in verdicts),
        )
        for name, verdicts in sorted(found.items(), key=lambda item: ORDER[item[0]])
    ]


def _among(sheet: Sheet, seed: int, runs: Sequence[Run]) -> list[Among]:
    owners = [run for run in runs for _ in last_phase(run)]
    verdicts = judge([row for run in runs for row in last_phase(run)])
    tests = {run.name: kept_macro_f1(run, sheet) for run in runs}
    best = owners[verdicts["oracle"]["row"]]
    found = []
    for name, verdict in sorted(verdicts.items(), key=lambda item: ORDER[item[0]]):
        if name in WITHIN_RUNS_ONLY:
            continue
        run = owners[verdict["row"]]
        kept = run.record["selection"]["step"] == verdict["step"]
        test = tests[run.name] if kept else None
        found.append(
            Among(
                sheet=sheet,
                seed=seed,
                rule=name,
                sees=verdict["sees"],
                num_candidates=len(runs),
                method=run.method,
                network=run.network,
                step=verdict["step"],
                score=verdict["score"],
                best_method=best.method,
                regret=verdict["regret"],
                test_score=test,
                test_regret=None if test is None else max(tests.values()) - test,
            )
        )
    return found


def kept_macro_f1(run: Run, sheet: Sheet) -> float:
    """Of the weights that the run kept."""
    return float(run.record["results"][sheet.domain][sheet.split]["macro_f1"])


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
