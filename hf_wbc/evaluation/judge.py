"""How good a selection rule was, judged afterwards by evaluations that looked at target labels."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

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


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Rank correlation of two sequences (N,), ties shared; None when one of them is constant.

    In plain Python: a study judges thousands of runs of a few evaluations each.

    >>> spearman([1, 2, 3], [10, 30, 20])
    0.5
    """
    off_a, off_b = _centred_ranks(a), _centred_ranks(b)
    norm = math.sqrt(sum(x * x for x in off_a) * sum(y * y for y in off_b))
    return sum(x * y for x, y in zip(off_a, off_b, strict=True)) / norm if norm else None


ORACLE = rule("oracle")


def _value(rule: Rule, row: Scores) -> float | None:
    """A rule's value where it is a number."""
    value = rule.value(row)
    return None if value is None or not math.isfinite(value) else value


def _centred_ranks(values: Sequence[float]) -> list[float]:
    """Ranks, less their mean; equal values share their mean rank."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks, first = [0.0] * len(values), 0
    for _, ties in groupby(order, key=values.__getitem__):
        places = list(ties)
        last = first + len(places) - 1
        for place in places:
            ranks[place] = (first + last - (len(values) - 1)) / 2
        first = last + 1
    return ranks
