"""Rules that pick the weights to keep, each with what it must see of the target to do so.

`oracle` rules see target labels: they tell how much selection costs, and are never a result.
A new rule is one more entry in `RULES`; one that looks at target images is one in
`unlabelled_scores` too.

How good a selection rule was, judged afterwards by evaluations that looked at target labels."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hf_wbc.text import did_you_mean

Floats = NDArray[np.floating[Any]]
Scores = Mapping[str, Any]
"""One evaluation. `step` is always there, and each of these where the run has what it takes:

- `source_val`, `held_out`: scores of each source's, and each held-out domain's, validation images,
  `{domain: {"macro_f1": ...}}`;
- `unlabelled`: `unlabelled_scores` of each target, `{domain: {name: value}}`;
- `oracle`: scores of each target's labelled validation images, only on request.
"""


@dataclass(frozen=True)
class SelectionRule:
    """A named rule; a higher value is a better evaluation."""

    name: str
    sees: Literal["no target", "unlabelled target", "target labels"]
    value: Callable[[Scores], float | None]
    """Of one evaluation; None when it lacks what the rule needs."""
    summary: str


def _mean(scores: Scores, part: str, name: str) -> float | None:
    """Mean over the domains of a part; None when one of them lacks the name."""
    values = [domain.get(name) for domain in scores.get(part, {}).values()]
    return None if not values or None in values else float(sum(values) / len(values))


def _last(scores: Scores) -> float:
    return float(scores["step"])


def _unlabelled(name: str, summary: str) -> SelectionRule:
    value = partial(_mean, part="unlabelled", name=name)
    return SelectionRule(name, "unlabelled target", value, summary)


RULES = (
    SelectionRule(
        "source_val",
        "no target",
        partial(_mean, part="source_val", name="macro_f1"),
        "macro-F1, mean over the sources' validation sets",
    ),
    SelectionRule("last", "no target", _last, "the last evaluation"),
    SelectionRule(
        "held_out",
        "no target",
        partial(_mean, part="held_out", name="macro_f1"),
        "macro-F1, mean over domains that are left out of training (leave one source out)",
    ),
    _unlabelled("im", "certain predictions, spread over all classes alike"),
    _unlabelled("im_prior", "certain predictions, spread as the estimated priors"),
    _unlabelled("entropy", "certain predictions"),
    _unlabelled("bnm", "nuclear norm of the predictions: certain and diverse"),
    _unlabelled("bnm_prior", "the same, diverse as the estimated priors"),
    _unlabelled("snd", "dense neighbourhoods of like predictions"),
    _unlabelled("dev", "source error, weighted by how much each image is like the target's"),
    _unlabelled("softmax_corr", "no two classes predicted together, all classes alike"),
    _unlabelled("softmax_corr_prior", "the same, classes as the estimated priors"),
    _unlabelled("class_ami", "predicted classes agree with clusters of the features"),
    _unlabelled("agreement", "agrees with the mean of all earlier evaluations"),
    SelectionRule(
        "oracle",
        "target labels",
        partial(_mean, part="oracle", name="macro_f1"),
        "macro-F1 on the targets' validation sets: no result, but what a rule is judged by",
    ),
)


def selection_rule(name: str) -> SelectionRule:
    """A rule by name; ValueError lists the names that exist.

    >>> selection_rule("last").value({"step": 200})
    200.0
    """
    for candidate in RULES:
        if candidate.name == name:
            return candidate
    names = [candidate.name for candidate in RULES]
    raise ValueError(f"unknown selection rule {name!r}; {did_you_mean(name, names)}")


def require_selection_rule(
    rule: SelectionRule, *, has_target: bool, has_held_out: bool, oracle: bool
) -> None:
    """ValueError, before anything is trained, when a run will lack what its rule needs."""
    if rule.sees == "unlabelled target" and not has_target:
        raise ValueError(
            f"selection {rule.name} looks at target images; name them with --target, "
            "or use --selection source_val"
        )
    if rule.sees == "target labels" and not (has_target and oracle):
        raise ValueError(
            f"selection {rule.name} looks at target labels, so its score is no result; "
            "ask for it with --target and --oracle, or use --selection source_val"
        )
    if rule.name == "held_out" and not has_held_out:
        raise ValueError(
            "selection held_out looks at labelled domains that are not trained on; "
            "name them with --held-out, or use --selection source_val"
        )


def criterion_values(scores: Scores) -> dict[str, float]:
    """The value of every rule that has what it needs.

    >>> criterion_values({"step": 2, "source_val": {"a": {"macro_f1": 0.5}, "b": {"macro_f1": 0.7}}})
    {'source_val': 0.6, 'last': 2.0}
    """
    found = {each.name: each.value(scores) for each in RULES}
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class ValidationOutputs:
    """What a classifier says of N validation images of one or more domains."""

    features: Floats
    """Penultimate features (N, d)."""
    logits: Floats
    """Class scores before softmax (N, C)."""
    labels: NDArray[np.integer[Any]] | None = None
    """Class ids (N,), of a source only."""


def unlabelled_scores(
    source: ValidationOutputs,
    target: ValidationOutputs,
    priors: Floats | None = None,
    ensemble: Floats | None = None,
) -> dict[str, float]:
    """The score of every rule that looks at unlabelled target images, by the rule's name.

    `priors` (C,) are the target's as estimated without labels, but not from these very predictions:
    a classifier that sees one class everywhere estimates that all are of it, and would look
    perfect. Without them the prior-corrected scores are left out. `ensemble` (N_t, C) is the mean
    prediction of all earlier evaluations.
    """
    from scipy.special import softmax

    from hf_wbc.evaluation import validators
    from hf_wbc.evaluation.validators import class_ami, dev, snd

    assert source.labels is not None and target.labels is None
    p = softmax(np.asarray(target.logits, np.float64), axis=1)
    errors = (source.logits.argmax(1) != source.labels).astype(np.float64)
    scores = {
        "im": validators.info_max(p),
        "entropy": validators.entropy(p),
        "bnm": validators.bnm(p),
        "snd": snd(p),
        "dev": dev(source.features, errors, target.features),
        "softmax_corr": validators.softmax_corr(p),
        "class_ami": class_ami(target.features, p.argmax(1)),
        "agreement": validators.agreement(p, ensemble),
    }
    if priors is not None:
        scores["im_prior"] = validators.info_max_prior(p, priors)
        scores["bnm_prior"] = validators.bnm_prior(p, priors)
        scores["softmax_corr_prior"] = validators.softmax_corr_prior(p, priors)
    return scores


def evaluate_criteria(rows: Sequence[Scores]) -> dict[str, dict[str, Any]]:
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


ORACLE = selection_rule("oracle")


def _value(rule: SelectionRule, row: Scores) -> float | None:
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
