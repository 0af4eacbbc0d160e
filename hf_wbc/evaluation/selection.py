"""Rules that pick the weights to keep, each with what it must see of the target to do so.

`oracle` rules see target labels: they tell how much selection costs, and are never a result.
A new rule is one more entry in `RULES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

Scores = Mapping[str, Any]
"""One evaluation: `step`, and under `source_val` the scores of each source's validation split."""


@dataclass(frozen=True)
class Rule:
    """A named rule; a higher value is a better evaluation."""

    name: str
    sees: Literal["no target", "unlabelled target", "target labels"]
    value: Callable[[Scores], float]
    summary: str


def _source_val(scores: Scores) -> float:
    domains = scores["source_val"].values()
    return float(sum(domain["macro_f1"] for domain in domains) / len(domains))


def _last(scores: Scores) -> float:
    return float(scores["step"])


RULES = (
    Rule(
        "source_val", "no target", _source_val, "macro-F1, mean over the sources' validation sets"
    ),
    Rule("last", "no target", _last, "the last evaluation"),
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
