"""`WbcMacroF1`: the scores as a metric of the `evaluate` library, and the files of its Space.

The Space must work without hf_wbc, so it contains copies of the modules in `MODULES` with their
imports made local. Never edit the copies by hand; after a change to one of these modules, run

    python -m hf_wbc.evaluation.wbc_macro_f1 spaces/wbc_macro_f1

`evaluate.load` constrains this file: it copies only the siblings that this file itself imports,
each on a line without a comment, and it takes the first metric class that it finds. That is why
`evaluate` is imported as a whole module, and `did_you_mean`, which `taxonomy` needs, here too.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import evaluate
from numpy.typing import ArrayLike

from .bootstrap import bootstrap_scores
from .metrics import confusion_counts, summarize
from .probability_metrics import (
    probability_intervals,
    probability_scores,
    scored_probabilities,
)
from .taxonomy import NAMES
from .text import did_you_mean as did_you_mean

__all__ = ["WbcMacroF1", "space_files", "with_local_imports"]

DESCRIPTION = """\
Scores a classifier of white blood cells over the eleven classes of the 2022 challenge "Help a
hematologist out!". macro_f1 is the mean F1 over the classes that occur in the references;
num_classes is their number. It also returns accuracy, balanced accuracy, Matthews' correlation,
Cohen's kappa, scores per class, the confusion matrix, and how far errors are from the truth in the
lineage of blood cells; with probabilities, also AUROC, AUPRC and the calibration error.
"""
INPUTS = f"""
Args:
    predictions: class ids from 0 to 10, in this order: {", ".join(NAMES)}.
    references: class ids in the same order; images with -1 are excluded.
    merge: classes to score as one, as ["FROM=INTO", ...], for data with fewer than eleven classes.
    classes: names of the classes to score; images of all other classes are excluded.
    intervals: True adds 95 % bootstrap intervals, [low, high].
    groups: patient or slide of each image; the bootstrap then draws whole groups.
    seed: seed of the bootstrap.
    probabilities: eleven probabilities of each image; adds auroc_ovr, auroc_ovo, auprc and ece.
Returns:
    A dict of plain numbers, lists and dicts; fractions, not percentages.
"""


class WbcMacroF1(evaluate.Metric):  # type: ignore[misc]
    """Macro-F1 and related scores; `compute` returns what `hf_wbc.evaluation.metrics.score` does.

    Examples:
        >>> metric = WbcMacroF1()
        >>> scores = metric.compute(predictions=[2, 2, 9, 10], references=[2, 2, 9, 9])
        >>> round(scores["macro_f1"], 3), scores["num_classes"]
        (0.833, 2)
    """

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Value("float64")  # an integer type would silently truncate a probability
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": ids, "references": ids}),
        )

    def _compute(
        self,
        predictions: Sequence[int],
        references: Sequence[int],
        merge: Sequence[str] = (),
        classes: Sequence[str] = (),
        intervals: bool = False,
        groups: ArrayLike | None = None,
        seed: int = 0,
        probabilities: ArrayLike | None = None,
    ) -> dict[str, Any]:
        counted = confusion_counts(
            references, predictions, merge=merge, classes=classes, groups=groups
        )
        scores = summarize(counted)
        if intervals:
            scores["intervals"] = bootstrap_scores(counted, seed=seed)
        if probabilities is not None:
            found = scored_probabilities(
                probabilities, references, merge=merge, classes=classes, groups=groups
            )
            scores |= probability_scores(found)
            if intervals:
                scores["intervals"] |= probability_intervals(found, seed=seed)
        return scores


MODULES = (
    "text",
    "taxonomy",
    "evaluation/metrics",
    "evaluation/bootstrap",
    "evaluation/probability_metrics",
    "evaluation/wbc_macro_f1",
)
"""The modules that the Space contains, below the package."""


def space_files() -> dict[str, str]:
    """Return the text of each Python file of the Space, by file name."""
    package = Path(__file__).parents[1]
    return {
        Path(module).name + ".py": with_local_imports(
            (package / f"{module}.py").read_text(encoding="utf-8")
        )
        for module in MODULES
    }


def with_local_imports(text: str) -> str:
    """Turn `from hf_wbc.package.file import x` into `from .file import x`.

    Examples:
        >>> with_local_imports("from hf_wbc.taxonomy import NAMES")
        'from .taxonomy import NAMES'
    """
    return re.sub(r"^from hf_wbc(?:\.\w+)*\.(\w+) import ", r"from .\1 import ", text, flags=re.M)


if __name__ == "__main__":
    for name, text in space_files().items():
        Path(sys.argv[1], name).write_text(text, encoding="utf-8")
