"""How good a selection rule was, judged afterwards by evaluations that looked at target labels."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_wbc.evaluation.selection import RULES, Rule, Scores, rule


def judge(rows: Sequence[Scores]) -> dict[str, dict[str, Any]]:
    """For each rule that has values: how it ranks the evaluations, and what its choice costs.

    `rows` are the evaluations of a run, or of several one after another; those without the oracle's
    score are left out. ValueError when none has it.

    - `correlation`: Spearman's, with the oracle; None where there is nothing to rank.
    - `row`, `step`: the evaluation it would have chosen, among `rows`; ties keep the earlier.
    - `score`, `regret`: the oracle's score there, and how far that is from the best one.
    - `num_evaluations`: with a value; a rule that lacks some may not find the best.
    """
    oracle = {i: value for i, row in enumerate(rows) if (value := _value(ORACLE, row)) is not None}
    if not oracle:
        raise ValueError(
            f"none of the {len(rows)} evaluations has the oracle's score; train with --oracle"
        )
    found = {}
    for each in RULES:
        values = {i: value for i in oracle if (value := _value(each, rows[i])) is not None}
        if values:
            chosen = max(values, key=lambda i: values[i])
            found[each.name] = {
                "sees": each.sees,
                "correlation": spearman(list(values.values()), [oracle[i] for i in values]),
                "row": chosen,
                "step": rows[chosen]["step"],
                "score": oracle[chosen],
                "regret": max(oracle.values()) - oracle[chosen],
                "num_evaluations": len(values),
            }
    return found


def spearman(a: ArrayLike, b: ArrayLike) -> float | None:
    """Rank correlation of two sequences (N,), ties shared; None when one of them is constant.

    >>> spearman([1, 2, 3], [10, 30, 20])
    0.5
    """
    ranks_a, ranks_b = (_ranks(np.asarray(each)) for each in (a, b))
    off_a, off_b = ranks_a - ranks_a.mean(), ranks_b - ranks_b.mean()
    norm = math.sqrt(float(off_a @ off_a) * float(off_b @ off_b))
    return float(off_a @ off_b) / norm if norm else None


ORACLE = rule("oracle")


def _value(rule: Rule, row: Scores) -> float | None:
    """A rule's value where it is a number."""
    value = rule.value(row)
    return None if value is None or not math.isfinite(value) else value


def _ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks from 0; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum() - 1
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return ranks
