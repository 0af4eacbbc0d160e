"""Rules that pick the weights to keep, each with what it must see of the target to do so.

`oracle` rules see target labels: they tell how much selection costs, and are never a result.
A new rule is one more entry in `RULES`; one that looks at target images is one in
`unlabelled_scores` too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Scores = Mapping[str, Any]
"""One evaluation. `step` is always there, and each of these where the run has what it takes:

- `source_val`, `held_out`: scores of each source's, and each held-out domain's, validation images,
  `{domain: {"macro_f1": ...}}`;
- `unlabelled`: `unlabelled_scores` of each target, `{domain: {name: value}}`;
- `oracle`: scores of each target's labelled validation images, only on request.
"""


@dataclass(frozen=True)
class Rule:
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


def _unlabelled(name: str, summary: str) -> Rule:
    value = partial(_mean, part="unlabelled", name=name)
    return Rule(name, "unlabelled target", value, summary)


RULES = (
    Rule(
        "source_val",
        "no target",
        partial(_mean, part="source_val", name="macro_f1"),
        "macro-F1, mean over the sources' validation sets",
    ),
    Rule("last", "no target", _last, "the last evaluation"),
    Rule(
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
    Rule(
        "oracle",
        "target labels",
        partial(_mean, part="oracle", name="macro_f1"),
        "macro-F1 on the targets' validation sets: no result, but what a rule is judged by",
    ),
)


def rule(name: str) -> Rule:
    """A rule by name; ValueError lists the names that exist.

    >>> rule("last").value({"step": 200})
    200.0
    """
    for candidate in RULES:
        if candidate.name == name:
            return candidate
    names = [candidate.name for candidate in RULES]
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(names)}"
    raise ValueError(f"unknown selection rule {name!r}; {hint}")


def require_rule(rule: Rule, *, has_target: bool, has_held_out: bool, oracle: bool) -> None:
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


def values(scores: Scores) -> dict[str, float]:
    """The value of every rule that has what it needs.

    >>> values({"step": 2, "source_val": {"a": {"macro_f1": 0.5}, "b": {"macro_f1": 0.7}}})
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

    from hf_wbc.evaluation import certainty
    from hf_wbc.evaluation.clusters import class_ami
    from hf_wbc.evaluation.dev import dev
    from hf_wbc.evaluation.neighbours import snd

    assert source.labels is not None and target.labels is None
    p = softmax(np.asarray(target.logits, np.float64), axis=1)
    errors = (source.logits.argmax(1) != source.labels).astype(np.float64)
    scores = {
        "im": certainty.info_max(p),
        "entropy": certainty.entropy(p),
        "bnm": certainty.bnm(p),
        "snd": snd(p),
        "dev": dev(source.features, errors, target.features),
        "softmax_corr": certainty.softmax_corr(p),
        "class_ami": class_ami(target.features, p.argmax(1)),
        "agreement": certainty.agreement(p, ensemble),
    }
    if priors is not None:
        scores["im_prior"] = certainty.info_max_prior(p, priors)
        scores["bnm_prior"] = certainty.bnm_prior(p, priors)
        scores["softmax_corr_prior"] = certainty.softmax_corr_prior(p, priors)
    return scores
