"""Which rows of a table are drawn in detail, and why; a reason that needs target labels says so.

Dozens of methods cannot all be looked at. Drawn are the baseline, what the rules without target
labels would take, and, to show the range, the best and the worst that target labels tell.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from hf_wbc.evaluation.model_selection import RULES
from hf_wbc.study.collect import Run
from hf_wbc.study.comparison import labels
from hf_wbc.study.table import Row

UNLABELLED = tuple(rule.name for rule in RULES if rule.sees == "unlabelled target")
NUM_UNLABELLED = 2
BY_LABELS = "chosen with target labels after all was scored, to show the range"


@dataclass(frozen=True)
class Chosen:
    """A row that is drawn in detail."""

    row: Row
    name: str
    why: tuple[str, ...]
    by_labels: bool
    """Whether target labels alone chose it."""

    @property
    def run(self) -> Run:
        """Of the lowest seed, which no score has picked."""
        return self.row.runs[0]


def choose(rows: Sequence[Row], baseline: str) -> list[Chosen]:
    """Rows of one sheet and backbone to draw, the baseline first, each once with all its reasons.

    Rows whose weights were chosen by target labels are not among them, unless there are no others.

    >>> choose([], "source_only")
    []
    """
    names = dict(zip(map(id, rows), labels(rows), strict=True))
    rows = [row for row in rows if row.sees != "target labels"] or rows
    reasons: dict[int, list[tuple[str, bool]]] = {}
    for number, row in enumerate(rows):
        if row.method == baseline:
            reasons.setdefault(number, []).append(("the baseline", False))
    has_target = any(row.targets for row in rows)
    if (ranked := _by_unlabelled_rules(rows)) and len(rows) > 1:
        for place, (number, num_rules) in enumerate(ranked[:NUM_UNLABELLED]):
            words = f"{('first', 'second')[place]} of {len(ranked)} by the mean rank over "
            words += f"{num_rules} rules that see target images without labels"
            reasons.setdefault(number, []).append((words, False))
    if has_target and len(rows) > 1 and (best := _by_source(rows)) is not None:
        words = "highest macro-F1 on the sources' validation images"
        reasons.setdefault(best, []).append((words, False))
    if len(rows) > 1:
        scores = [row.macro_f1 for row in rows]
        how = BY_LABELS if has_target else "by its test images"
        for number, word in (
            (int(np.argmax(scores)), "highest"),
            (int(np.argmin(scores)), "lowest"),
        ):
            reasons.setdefault(number, []).append((f"{word} macro-F1 of all, {how}", True))
    elif rows:
        reasons.setdefault(0, [("the only one", False)])
    return [
        Chosen(
            rows[i],
            names[id(rows[i])],
            tuple(why for why, _ in given),
            all(seen for _, seen in given),
        )
        for i, given in reasons.items()
    ]


def values_of(run: Run) -> Mapping[str, float]:
    """Every rule's value at the evaluation whose weights were kept."""
    step = run.record["selection"]["step"]
    kept = [row for row in run.record["history"] if row["step"] == step]
    return dict(kept[-1]["selection"]) if kept else {}


def _by_unlabelled_rules(rows: Sequence[Row]) -> list[tuple[int, int]]:
    """(row, rules that rank) by mean rank; rows of which a rule has no value are ranked last by it.

    None are ranked where no rule has a value.
    """
    tables = [_mean_values(row) for row in rows]
    rules = [name for name in UNLABELLED if any(name in table for table in tables)]
    if not rules:
        return []
    from scipy.stats import rankdata

    values = np.array([[table.get(name, -np.inf) for name in rules] for table in tables])
    ranks = rankdata(-np.nan_to_num(values, nan=-np.inf), axis=0).mean(1)
    return [(int(i), len(rules)) for i in np.argsort(ranks, kind="stable")]


def _by_source(rows: Sequence[Row]) -> int | None:
    """The row with the highest macro-F1 on the sources' validation images."""
    values = [_mean_values(row).get("source_val") for row in rows]
    known = [(value, -i) for i, value in enumerate(values) if value is not None]
    return -max(known)[1] if known else None


def _mean_values(row: Row) -> dict[str, float]:
    """Mean over seeds of each rule's value, of the rules that every seed has."""
    tables = [values_of(run) for run in row.runs]
    names = set(tables[0]).intersection(*tables[1:])
    return {name: fmean(table[name] for table in tables) for name in sorted(names)}
