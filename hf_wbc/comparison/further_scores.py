"""Further scores of runs, from their predictions: MCC, kappa, AUROC, AUPRC, calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow.compute as pc

from hf_wbc.comparison.collect import Problem, Run
from hf_wbc.comparison.result_table import EvalSetting, ResultRow
from hf_wbc.evaluation.bootstrap import bootstrap_scores
from hf_wbc.evaluation.metrics import confusion_counts, summarize
from hf_wbc.evaluation.probability_metrics import (
    probability_intervals,
    probability_scores,
    scored_probabilities,
)
from hf_wbc.taxonomy import NAMES, UNLABELED

NUM_RESAMPLES = 500
SCORES = {
    "mcc": "MCC",
    "kappa": "kappa",
    "auroc_ovr": "AUROC one-vs-rest",
    "auroc_ovo": "AUROC one-vs-one",
    "auprc": "AUPRC",
    "ece": "calibration error",
}
"""Names of the scores, with their headings."""
_COLUMNS = ("domain", "split", "label", "predicted", *(f"p_{name}" for name in NAMES))


@dataclass(frozen=True)
class FurtherScores:
    """Means over the runs of a row; intervals have the means of their ends."""

    setting: EvalSetting
    backbone: str
    name: str
    """The method with its options."""
    rule: str
    num_runs: int
    scores: Mapping[str, float | None]
    """By the names in SCORES; None where a score is not defined."""
    intervals: Mapping[str, tuple[float, float] | None]
    unit: str
    """Unit of the bootstrap: image or group."""


def further_scores(
    rows: Sequence[ResultRow], seed: int = 0
) -> tuple[tuple[FurtherScores, ...], list[Problem]]:
    """Score the runs of headline rows, and average over their seeds.

    Returns:
        The averages in the order of the rows, and a problem for each run whose predictions cannot
        be used.
    """
    problems: list[Problem] = []
    made = []
    for row in rows:
        if not row.setting.is_headline:
            continue
        found = [each for run in row.runs if (each := _score(run, row.setting, seed, problems))]
        if found:
            made.append(_average(row, found))
    return tuple(made), problems


def _score(
    run: Run, setting: EvalSetting, seed: int, problems: list[Problem]
) -> dict[str, Any] | None:
    try:
        return _scores(run, setting, seed)
    except ValueError as error:
        problem = Problem(run.path, f"it has no further scores: {error}", run.name)
        if problem not in problems:
            problems.append(problem)
        return None


def _scores(run: Run, setting: EvalSetting, seed: int) -> dict[str, Any]:
    """Return the scores of a run in a setting, with intervals and the unit of the bootstrap."""
    table = run.predictions()
    if missing := [name for name in _COLUMNS if name not in table.column_names]:
        raise ValueError(f"predictions.parquet has no column {', '.join(missing)}")
    here = pc.and_(
        pc.equal(table["domain"], setting.domain), pc.equal(table["split"], setting.split)
    )
    table = table.filter(here)
    labels = table["label"].to_numpy().astype(np.int64)
    groups = None
    if "group" in table.column_names and not table["group"].null_count:
        known = np.array(table["group"].to_pylist(), str)
        groups = known if len(np.unique(known[labels != UNLABELED])) > 1 else None
    options: dict[str, Any] = {
        "merge": setting.merge,
        "classes": setting.classes,
        "groups": groups,
    }
    counted = confusion_counts(labels, table["predicted"].to_numpy(), **options)
    probabilities = np.stack([table[f"p_{name}"].to_numpy() for name in NAMES], 1)
    found = scored_probabilities(probabilities, labels, **options)
    drawn = bootstrap_scores(counted, num_resamples=NUM_RESAMPLES, seed=seed)
    return {
        "scores": {**summarize(counted), **probability_scores(found)},
        "intervals": drawn | probability_intervals(found, num_resamples=NUM_RESAMPLES, seed=seed),
        "unit": drawn["unit"],
    }


def _average(row: ResultRow, found: Sequence[Mapping[str, Any]]) -> FurtherScores:
    scores: dict[str, float | None] = {}
    intervals: dict[str, tuple[float, float] | None] = {}
    for name in SCORES:
        values = [each["scores"][name] for each in found]
        ends = [each["intervals"][name] for each in found]
        is_known = None not in values and None not in ends
        scores[name] = fmean(values) if is_known else None
        intervals[name] = None
        if is_known:
            low, high = zip(*ends, strict=True)
            intervals[name] = (fmean(low), fmean(high))
    return FurtherScores(
        setting=row.setting,
        backbone=row.backbone,
        name=row.name,
        rule=row.rule,
        num_runs=len(found),
        scores=scores,
        intervals=intervals,
        unit=found[0]["unit"],
    )
