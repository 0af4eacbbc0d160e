"""Score models of white blood cells in Inspect (https://inspect.aisi.org.uk), an optional library.

A sample's target is the name of a class, and the model's answer is its completion: a class name, or
JSON with the key `class`. For scores of plain lists of classes, see
`hf_wbc.evaluation.metrics.score`.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hf_wbc.plots.class_names import display_name
from hf_wbc.taxonomy import NAMES

if TYPE_CHECKING:
    from inspect_ai.scorer import Metric, Scorer

__all__ = ["parse_class", "wbc_macro_f1", "wbc_scorer"]

NO_CLASS = "none"
"""Answer that names no class or several; it counts as an error of the true class."""
_SEPARATORS = re.compile(r"[\s_-]+")


def parse_class(answer: str) -> str:
    """Return the class that an answer names, or `none`.

    >>> parse_class("Segmented: neutrophil_segmented."), parse_class('{"class": "Basophil"}')
    ('neutrophil_segmented', 'basophil')
    >>> parse_class("basophil or eosinophil")
    'none'
    """
    text = answer
    try:
        values = json.loads(answer)
        text = str(values["class"])
    except (KeyError, TypeError, ValueError):
        pass
    plain = _SEPARATORS.sub(" ", text.lower())
    found = {
        name
        for name in NAMES
        for spelled in (name.replace("_", " "), display_name(name).lower())
        if re.search(rf"\b{spelled}\b", plain)
    }
    return found.pop() if len(found) == 1 else NO_CLASS


def wbc_scorer() -> "Scorer":
    """Return a scorer for Inspect that compares the named class with the target.

    Its metric is macro-F1 over the classes that occur among the targets.

    Raises:
        ImportError: If inspect_ai is not installed.
    """
    from inspect_ai.scorer import CORRECT, INCORRECT, Score, Target, scorer
    from inspect_ai.solver import TaskState

    def build() -> "Scorer":
        async def score(state: TaskState, target: Target) -> Score:
            answer, true = parse_class(state.output.completion), parse_class(target.text)
            return Score(
                value=CORRECT if answer == true != NO_CLASS else INCORRECT,
                answer=answer,
                explanation=f"{answer} for {true}",
                metadata={"target": true},
            )

        return score

    made: Scorer = scorer(metrics=[wbc_macro_f1()], name="wbc_scorer")(build)()
    return made


def wbc_macro_f1() -> "Metric":
    """Return the metric of `wbc_scorer`."""
    from inspect_ai.scorer import SampleScore, metric

    def build() -> Any:
        def compute(scores: list[SampleScore]) -> float:
            pairs = [((each.score.metadata or {})["target"], each.score.answer) for each in scores]
            return macro_f1_of_names(pairs)

        return compute

    made: Metric = metric(name="wbc_macro_f1")(build)()
    return made


def macro_f1_of_names(pairs: Sequence[tuple[str, str | None]]) -> float:
    """Return macro-F1 over the classes that occur among the targets.

    Args:
        pairs: Target and answer of each sample; an answer without a class is an error.

    Raises:
        ValueError: If a target is no class, or there are no samples.
    """
    targets = Counter(target for target, _ in pairs)
    answers = Counter(answer for _, answer in pairs)
    right = Counter(target for target, answer in pairs if answer == target)
    strange = [name for name in targets if name not in NAMES]
    if strange or not pairs:
        raise ValueError(
            f"the targets are {', '.join(strange) or 'missing'}; each has to be one of "
            f"{', '.join(NAMES)}"
        )
    return fmean(2 * right[name] / (targets[name] + answers[name]) for name in targets)
