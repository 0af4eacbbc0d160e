"""`WbcMacroF1`: the scores as a metric of the evaluate library.

The same file is the metric's Space (`hf_wbc.evaluation.wbc_macro_f1` writes it there), which
`evaluate.load` reads. That copies the siblings which this file itself imports, each on a line
without a comment, and takes the first metric class it finds, so evaluate is imported whole.

The Python files of the metric's Space: the package's own, with their imports made local.

`evaluate.load` copies a metric's file and the siblings that it imports, and the Space must work
without hf_wbc, so it holds copies, never edited by hand. After a change to one of `MODULES`:

    python -m hf_wbc.evaluation.wbc_macro_f1 spaces/wbc_macro_f1"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import evaluate
from numpy.typing import ArrayLike

from hf_wbc.evaluation.bootstrap import bootstrap_scores
from hf_wbc.evaluation.metrics import confusion_counts, summary
from hf_wbc.taxonomy import NAMES

DESCRIPTION = """\
Scores a classifier of white blood cells over the eleven classes of the 2022 challenge "Help a
hematologist out!". macro_f1 is the mean F1 over the classes that occur in the references;
num_classes says how many those are. Beside it: accuracy, balanced accuracy, a table by class, the
confusion matrix, and how far errors lie from the truth in the lineage of blood cells.
"""
INPUTS = f"""
Args:
    predictions: class ids from 0 to 10, in this order: {", ".join(NAMES)}.
    references: class ids in the same order; images with -1 are left out.
    merge: classes to score as one, as ["FROM=INTO", ...], for sets that know fewer than eleven.
    classes: names of the classes to score; images of all others are left out.
    intervals: True adds bootstrap intervals, [low, high] at 95 %.
    groups: patient or slide of each image; the intervals then draw whole groups.
    seed: of the bootstrap.
Returns:
    A dict of plain numbers, lists and dicts; fractions, not percents.
"""


class WbcMacroF1(evaluate.Metric):  # type: ignore[misc]
    """`compute(predictions=..., references=...)` gives what `hf_wbc.evaluation.metrics.score` does.

    >>> metric = WbcMacroF1()
    >>> scores = metric.compute(predictions=[2, 2, 9, 10], references=[2, 2, 9, 9])
    >>> round(scores["macro_f1"], 3), scores["num_classes"]
    (0.833, 2)
    """

    def _info(self) -> evaluate.MetricInfo:
        ids = datasets.Value("float64")  # evaluate would cut a probability to an integer id
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
    ) -> dict[str, Any]:
        counted = confusion_counts(
            references, predictions, merge=merge, classes=classes, groups=groups
        )
        scores = summary(counted)
        if intervals:
            scores["intervals"] = bootstrap_scores(counted, seed=seed)
        return scores


MODULES = (
    "text",
    "taxonomy",
    "evaluation/tally",
    "evaluation/metrics",
    "evaluation/intervals",
    "evaluation/wbc_macro_f1",
)


def space_files() -> dict[str, str]:
    """The text of each file by its name in the Space."""
    package = Path(__file__).parents[1]
    return {
        Path(module).name + ".py": localised((package / f"{module}.py").read_text())
        for module in MODULES
    }


def localised(text: str) -> str:
    """The text with `from hf_wbc.room.file import x` turned into `from .file import x`."""
    return re.sub(r"^from hf_wbc(?:\.\w+)*\.(\w+) import ", r"from .\1 import ", text, flags=re.M)


if __name__ == "__main__":
    for name, text in space_files().items():
        Path(sys.argv[1], name).write_text(text)
