"""Selection rules: criteria that pick the checkpoint to keep, and how well each one does.

Each rule declares what it sees of the target. `oracle` rules see target labels: they show the cost
of model selection and are not a valid result. To add a rule, add an entry to `RULES`, and to
`unlabeled_scores` too if it uses target images.

`evaluate_criteria` measures afterwards how good each rule is, given evaluations with target labels.
"""

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
"""Scores of one evaluation. `step` is always present, the others if the run has the data for them:

- `source_val`, `held_out`: scores on the validation images of each source and each held-out domain,
  `{domain: {"macro_f1": ...}}`;
- `unlabeled`: `unlabeled_scores` of each target, `{domain: {name: value}}`;
- `oracle`: scores on the labeled validation images of each target, only on request."""


@dataclass(frozen=True)
class SelectionRule:
    """Named selection rule; a higher value means a better evaluation."""

    name: str
    sees: Literal["no target", "unlabeled target", "target labels"]
    value: Callable[[Scores], float | None]
    """Returns the value of one evaluation, or None if the evaluation lacks what the rule needs."""
    summary: str


def _mean(scores: Scores, part: str, name: str) -> float | None:
    """Return the mean of a score over the domains of a part; None if a domain lacks it."""
    values = [domain.get(name) for domain in scores.get(part, {}).values()]
    return None if not values or None in values else float(sum(values) / len(values))


def _last(scores: Scores) -> float:
    return float(scores["step"])


def _unlabeled(name: str, summary: str) -> SelectionRule:
    value = partial(_mean, part="unlabeled", name=name)
    return SelectionRule(name, "unlabeled target", value, summary)


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
        "macro-F1, mean over labeled domains that are not trained on (leave-one-source-out)",
    ),
    _unlabeled("im", "mutual information: confident predictions, uniform over the classes"),
    _unlabeled(
        "im_prior", "the same, with the estimated priors in place of a uniform distribution"
    ),
    _unlabeled("entropy", "confident predictions (negative mean entropy)"),
    _unlabeled("bnm", "nuclear norm of the predictions: confident and diverse"),
    _unlabeled("bnm_prior", "the same, weighted by the estimated priors"),
    _unlabeled("snd", "soft neighborhood density: similar predictions form dense clusters"),
    _unlabeled("dev", "deep embedded validation: source error, importance-weighted to the target"),
    _unlabeled("softmax_corr", "class correlation: distinct and uniformly frequent classes"),
    _unlabeled("softmax_corr_prior", "the same, with the estimated priors"),
    _unlabeled(
        "class_ami", "adjusted mutual information of predicted classes and feature clusters"
    ),
    _unlabeled("agreement", "agreement with the mean prediction of all earlier evaluations"),
    SelectionRule(
        "oracle",
        "target labels",
        partial(_mean, part="oracle", name="macro_f1"),
        "macro-F1 on the targets' validation sets: an upper bound, not a valid result",
    ),
)


NEEDS_SOURCE = frozenset({"dev", "im_prior", "bnm_prior", "softmax_corr_prior"})
"""Rules on target images that also need labeled source images."""


def selection_rule(name: str) -> SelectionRule:
    """Return the rule of this name.

    Raises:
        ValueError: If there is no such rule; lists the names that exist.

    Examples:
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
    """Check before training that the run will have what its rule needs.

    Raises:
        ValueError: If the rule needs a target, a held-out domain or target labels that the run does
            not have.
    """
    if rule.sees == "unlabeled target" and not has_target:
        raise ValueError(
            f"selection {rule.name} requires target images; name them with --target, "
            "or use --selection source_val"
        )
    if rule.sees == "target labels" and not (has_target and oracle):
        raise ValueError(
            f"selection {rule.name} uses target labels, so its score is not a valid result; "
            "request it with --target and --oracle, or use --selection source_val"
        )
    if rule.name == "held_out" and not has_held_out:
        raise ValueError(
            "selection held_out requires labeled domains that are not trained on; "
            "name them with --held-out, or use --selection source_val"
        )


def criterion_values(scores: Scores) -> dict[str, float]:
    """Return the value of every rule for which the scores are available.

    Examples:
        >>> scores = {"a": {"macro_f1": 0.5}, "b": {"macro_f1": 0.7}}
        >>> criterion_values({"step": 2, "source_val": scores})
        {'source_val': 0.6, 'last': 2.0}
    """
    found = {each.name: each.value(scores) for each in RULES}
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class ValidationOutputs:
    """Outputs of a classifier for N validation images of one or more domains."""

    features: Floats
    """Penultimate features (N, d)."""
    logits: Floats
    """Class scores before softmax (N, C)."""
    labels: NDArray[np.integer[Any]] | None = None
    """Class ids (N,); None for a target."""


def unlabeled_scores(
    source: ValidationOutputs,
    target: ValidationOutputs,
    priors: Floats | None = None,
    ensemble: Floats | None = None,
) -> dict[str, float]:
    """Compute the score of every rule that uses unlabeled target images.

    Args:
        source: Outputs for labeled source images; without any, scores that need them are omitted.
        target: Outputs for unlabeled target images.
        priors: Class priors of the target (C,), estimated without labels and from other predictions
            than these: a classifier that predicts a single class would estimate matching priors and
            get a perfect score. None omits the prior-corrected scores.
        ensemble: Mean prediction of all earlier evaluations (N_t, C).

    Returns:
        Scores by the name of the rule; higher is better.
    """
    from scipy.special import softmax

    from hf_wbc.evaluation import validators
    from hf_wbc.evaluation.target_risk import dev
    from hf_wbc.evaluation.validators import class_ami, snd

    assert source.labels is not None and target.labels is None
    p = softmax(np.asarray(target.logits, np.float64), axis=1)
    errors = (source.logits.argmax(1) != source.labels).astype(np.float64)
    scores = {
        "im": validators.info_max(p),
        "entropy": validators.entropy(p),
        "bnm": validators.bnm(p),
        "snd": snd(p),
        "softmax_corr": validators.softmax_corr(p),
        "class_ami": class_ami(target.features, p.argmax(1)),
        "agreement": validators.agreement(p, ensemble),
    }
    if len(source.labels):
        scores["dev"] = dev(source.features, errors, target.features)
    if priors is not None:
        scores["im_prior"] = validators.info_max_prior(p, priors)
        scores["bnm_prior"] = validators.bnm_prior(p, priors)
        scores["softmax_corr_prior"] = validators.softmax_corr_prior(p, priors)
    return scores


def evaluate_criteria(rows: Sequence[Scores]) -> dict[str, dict[str, Any]]:
    """Measure how each rule ranks the evaluations, and what its choice costs.

    Args:
        rows: Evaluations of one run, or of several runs one after another. Evaluations without an
            oracle score are ignored.

    Returns:
        For each rule that has values:

        - `correlation`: Spearman correlation with the oracle; None if there is nothing to rank.
        - `row`, `step`: the evaluation that the rule chooses among `rows`; the earliest if tied.
        - `score`, `regret`: the oracle score of the choice, and its gap to the best one.
        - `num_evaluations`: number of evaluations with a value.

    Raises:
        ValueError: If no evaluation has an oracle score.
    """
    oracle = {i: value for i, row in enumerate(rows) if (value := _value(ORACLE, row)) is not None}
    if not oracle:
        raise ValueError(
            f"none of the {len(rows)} evaluations has an oracle score; train with --oracle"
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
    """Return the rank correlation of two sequences (N,); None if one of them is constant.

    Ties share their mean rank. Plain Python is faster here than SciPy, because a study evaluates
    thousands of runs with few evaluations each.

    Examples:
        >>> spearman([1, 2, 3], [10, 30, 20])
        0.5
    """
    off_a, off_b = _centered_ranks(a), _centered_ranks(b)
    norm = math.sqrt(sum(x * x for x in off_a) * sum(y * y for y in off_b))
    return sum(x * y for x, y in zip(off_a, off_b, strict=True)) / norm if norm else None


ORACLE = selection_rule("oracle")


def _value(rule: SelectionRule, row: Scores) -> float | None:
    """Return the value of a rule, or None if it is missing or not finite."""
    value = rule.value(row)
    return None if value is None or not math.isfinite(value) else value


def _centered_ranks(values: Sequence[float]) -> list[float]:
    """Return ranks minus their mean; equal values share their mean rank."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks, first = [0.0] * len(values), 0
    for _, ties in groupby(order, key=values.__getitem__):
        places = list(ties)
        last = first + len(places) - 1
        for place in places:
            ranks[place] = (first + last - (len(values) - 1)) / 2
        first = last + 1
    return ranks
