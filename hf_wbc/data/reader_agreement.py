"""What readers of the same cells say together: labels they agree on, kappa, and odd readers."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from hf_wbc.data.labels_file import SKIP, Answer
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import shorten_list

__all__ = ["agreed_labels", "cohen_kappa", "suspicious_readers"]

SAME_EVERYWHERE = 20
"""Labels from which a reader who gives a single class is reported."""


def agreed_labels(answers: Iterable[Answer]) -> tuple[dict[str, int], list[str]]:
    """Return the class ids of the cells whose readers agree, and the cells whose readers do not.

    Skipped cells and those that are of no class are in neither.
    """
    said: dict[str, set[str]] = defaultdict(set)
    for answer in answers:
        if answer.label != SKIP:
            said[answer.image_id].add(answer.label)
    agreed = {
        image_id: NAMES.index(next(iter(labels)))
        for image_id, labels in said.items()
        if len(labels) == 1 and next(iter(labels)) in NAMES
    }
    return agreed, [image_id for image_id, labels in said.items() if len(labels) > 1]


def cohen_kappa(answers: Iterable[Answer]) -> dict[tuple[str, str], tuple[float, int]]:
    """Return the agreement of each two readers on the cells that both named, and their number.

    Cohen's kappa (Cohen 1960): 1 is perfect agreement, 0 is what chance gives; NaN where both
    readers use a single class.
    """
    by_reader: dict[str, dict[str, str]] = defaultdict(dict)
    for answer in answers:
        if answer.label != SKIP:
            by_reader[answer.reader][answer.image_id] = answer.label
    found = {}
    names = sorted(by_reader)
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            common = sorted(by_reader[one].keys() & by_reader[other].keys())
            if common:
                a = [by_reader[one][each] for each in common]
                b = [by_reader[other][each] for each in common]
                found[one, other] = (_kappa(a, b), len(common))
    return found


def _kappa(a: Sequence[str], b: Sequence[str]) -> float:
    names = sorted({*a, *b})
    table = np.zeros((len(names), len(names)))
    for one, other in zip(a, b, strict=True):
        table[names.index(one), names.index(other)] += 1 / len(a)
    expected = float(table.sum(0) @ table.sum(1))
    return float("nan") if expected == 1 else (float(np.trace(table)) - expected) / (1 - expected)


def suspicious_readers(answers: Iterable[Answer]) -> list[str]:
    """Return a sentence for each reader who gave at least 20 cells a single class."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for answer in answers:
        if answer.is_class:
            counts[answer.reader][answer.label] += 1
    return [
        f"{reader or 'the reader'} labeled all {count.total()} cells {shorten_list(list(count))}: "
        "check that the keys work"
        for reader, count in counts.items()
        if len(count) == 1 and count.total() >= SAME_EVERYWHERE
    ]
