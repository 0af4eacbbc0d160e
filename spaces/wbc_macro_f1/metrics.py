"""Macro-F1 and its company, all from one confusion matrix.

macro-F1 is the mean F1 over the classes that occur in the references. A prediction into a class
that does not occur is an error of the class it came from, and adds no class to the mean. The number
of classes stands beside the score, because scores over different classes cannot be compared.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .tally import Tally, tally
from .taxonomy import Relation, relation


def score(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    merge: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> dict[str, Any]:
    """Every score of N predictions, as values for JSON; labels and predictions (N,) class ids.

    Options and errors are those of `tally`.

    >>> scores = score([2, 2, 9, 9], [2, 2, 9, 10])
    >>> round(scores["macro_f1"], 3), scores["num_classes"], scores["worst_class"]["name"]
    (0.833, 2, 'monocyte')
    """
    return summary(tally(labels, predictions, merge=merge, classes=classes))


def summary(counted: Tally) -> dict[str, Any]:
    """Every score of a tally, as values for JSON; fractions in [0, 1]."""
    confusion = counted.confusion
    num_images = int(confusion.sum())
    support, predicted, hits = confusion.sum(1), confusion.sum(0), np.diagonal(confusion)
    columns = (_ratio(hits, predicted), _ratio(hits, support), f1(confusion), support)
    per_class = {
        name: dict(zip(("precision", "recall", "f1", "support"), row, strict=True))
        for name, *row in zip(counted.names, *(c.tolist() for c in columns), strict=True)
        if row[-1]
    }
    worst = min(per_class, key=lambda name: per_class[name]["f1"])
    far = _relations(counted.members)
    return {
        "macro_f1": float(macro_f1(confusion)),
        "num_classes": len(per_class),
        "accuracy": float(accuracy(confusion)),
        "balanced_accuracy": float(balanced_accuracy(confusion)),
        "worst_class": {"name": worst, "f1": per_class[worst]["f1"]},
        "per_class": per_class,
        "lineage_errors": {
            kind.name.lower(): int(confusion[far == kind].sum()) / num_images
            for kind in Relation
            if kind != Relation.SAME
        },
        "confusion": confusion.tolist(),
        "class_names": list(counted.names),
        "num_images": num_images,
        "num_unlabelled": counted.num_unlabelled,
        "num_other": counted.num_other,
        "merge": list(counted.merge),
        "classes": list(counted.classes),
    }


def f1(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """F1 of each class (..., K) of confusions (..., K, K); 0 for a class that is never hit."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _ratio(2 * hits, confusion.sum(-1) + confusion.sum(-2))


def macro_f1(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Mean F1 over the classes present in the references (...,) of confusions (..., K, K)."""
    return _mean(f1(confusion), confusion.sum(-1) > 0)


def balanced_accuracy(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Mean recall over the classes present in the references (...,)."""
    support = confusion.sum(-1)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _mean(_ratio(hits, support), support > 0)


def accuracy(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Fraction of the images that are right (...,)."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum((-2, -1)))


def _mean(values: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    return _ratio((values * present).sum(-1), present.sum(-1))


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """part / whole, and 0 where there is nothing."""
    ratio = np.zeros(np.shape(part))
    np.divide(part, whole, out=ratio, where=np.asarray(whole) > 0)
    return ratio


def _relations(members: tuple[tuple[int, ...], ...]) -> NDArray[np.int64]:
    """Relation of every two classes (K, K); of merged ones the mildest, as the image may be any."""
    return np.array(
        [
            [
                Relation.SAME if a is b else min(relation(i, j) for i in a for j in b)
                for b in members
            ]
            for a in members
        ]
    )
