"""Macro-F1 and its company, all from one confusion matrix.

macro-F1 is the mean F1 over the classes that occur in the references. A prediction into a class
that does not occur is an error of the class it came from, and adds no class to the mean. The number
of classes stands beside the score, because scores over different classes cannot be compared.

Counting which references were predicted as what: the confusion matrix that all scores share.

Labels are class ids, the index into `taxonomy.NAMES`; a label of -1 is left out and counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_wbc.taxonomy import NAMES, NUM_CLASSES, UNLABELED, Relation, class_id, relation

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ConfusionCounts:
    """Which references were predicted as what, after merging and choosing classes."""

    names: tuple[str, ...]
    """The K classes that merging left, in the order of the taxonomy."""
    members: tuple[tuple[int, ...], ...]
    """The class ids that each of them stands for."""
    confusions: Counts
    """Images (G, K, K): group, true, predicted; G is 1 where no groups are given."""
    grouped: bool
    """Whether groups are given."""
    merge: tuple[str, ...]
    classes: tuple[str, ...]
    num_unlabelled: int
    """Rows left out because their label is -1."""
    num_other: int
    """Rows left out because their label is none of the chosen classes."""

    @property
    def confusion(self) -> Counts:
        """Images (K, K): true, predicted."""
        total: Counts = self.confusions.sum(0)
        return total


def confusion_counts(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    merge: Sequence[str] = (),
    classes: Sequence[str] = (),
    groups: ArrayLike | None = None,
) -> ConfusionCounts:
    """Count labels against predictions, class ids (N,), for each group (N,) when they are given.

    `merge` holds FROM=INTO pairs, applied to both sides; `classes` leaves out the images of every
    other class, though not predictions into one. ValueError for ids, names or merges that do not
    exist, lengths that differ, and when nothing is left to score.
    """
    into = merged_labels(merge)
    true, predicted = _ids(labels, "label", UNLABELED), _ids(predictions, "prediction", 0)
    group = np.zeros(len(true), np.int64) if groups is None else _numbered(groups)
    if not len(true) == len(predicted) == len(group):
        lengths = f"{len(true)} labels, {len(predicted)} predictions"
        lengths += "" if groups is None else f", {len(group)} groups"
        raise ValueError(f"{lengths}; there must be one of each for every image")
    scored = _scored(true, classes, into)
    kept, place = np.unique(into, return_inverse=True)
    k = len(kept)
    group = np.unique(group[scored], return_inverse=True)[1]
    cell = (group * k + place[true[scored]]) * k + place[predicted[scored]]
    num_unlabelled = int((true == UNLABELED).sum())
    return ConfusionCounts(
        names=tuple(NAMES[i] for i in kept),
        members=tuple(tuple(np.flatnonzero(into == i).tolist()) for i in kept),
        confusions=np.bincount(cell, minlength=(group.max() + 1) * k * k).reshape(-1, k, k),
        grouped=groups is not None,
        merge=tuple(merge),
        classes=tuple(classes),
        num_unlabelled=num_unlabelled,
        num_other=len(true) - num_unlabelled - int(scored.sum()),
    )


def merged_labels(merge: Sequence[str]) -> Counts:
    """The class id that each of the eleven is scored as (11,), from FROM=INTO pairs.

    ValueError names a pair that is not one, a class that is unknown, merged twice or merged on.
    """
    into = np.arange(NUM_CLASSES)
    for pair in _listed(merge, "merge"):
        source, equals, target = pair.partition("=")
        if not equals:
            raise ValueError(
                f"merge {pair!r} is not FROM=INTO, like neutrophil_banded=neutrophil_segmented"
            )
        a, b = class_id(source.strip()), class_id(target.strip())
        if a == b:
            raise ValueError(f"merge {pair!r} merges a class into itself; leave it out")
        if into[a] != a:
            raise ValueError(f"merge {pair!r}: {NAMES[a]} is already merged into {NAMES[into[a]]}")
        into[a] = b
    for a, b in enumerate(into.tolist()):
        if into[b] != b:
            raise ValueError(
                f"merge {NAMES[a]}={NAMES[b]}: {NAMES[b]} is itself merged into {NAMES[into[b]]}; "
                f"merge {NAMES[a]} into the class that is kept"
            )
    return into


def _scored(true: Counts, classes: Sequence[str], into: Counts) -> NDArray[np.bool_]:
    """Which of the images (N,) are labelled and of the chosen classes; ValueError when none is."""
    labelled: NDArray[np.bool_] = true != UNLABELED
    if not labelled.any():
        raise ValueError(f"none of the {len(true)} images has a label; there is nothing to score")
    ids = [class_id(name) for name in _listed(classes, "classes")]
    for i in ids:
        if into[i] != i:
            raise ValueError(f"class {NAMES[i]!r} is merged; choose {NAMES[into[i]]!r}")
    scored = labelled & np.isin(into[true], ids) if ids else labelled
    if not scored.any():
        found = ", ".join(NAMES[i] for i in np.unique(into[true[labelled]]))
        raise ValueError(f"no image of the classes {', '.join(classes)}; there are {found}")
    return scored


def _listed(names: Sequence[str], what: str) -> Sequence[str]:
    if isinstance(names, str):
        raise ValueError(f"{what} is the text {names!r}; give a list, such as [{names!r}]")
    return names


def _ids(values: ArrayLike, what: str, lowest: int) -> Counts:
    """A vector of class ids from `lowest` to 10, as int64."""
    ids = np.asarray(values)
    if ids.ndim != 1:
        raise ValueError(f"{what}s have shape {ids.shape}; give one class id per image (argmax)")
    if not ids.size:
        raise ValueError(f"no {what}s; there must be at least one")
    if ids.dtype.kind not in "iuf":
        raise ValueError(f"{what}s are {ids.dtype}; give class ids, not names or masks")
    valid = (ids >= lowest) & (ids < NUM_CLASSES) & (ids == np.floor(ids))
    if not valid.all():
        row = int(np.argmin(valid))
        raise ValueError(
            f"{what} {ids[row]:g} in row {row} is not a class id; "
            f"ids are whole numbers from {lowest} to {NUM_CLASSES - 1}"
        )
    return ids.astype(np.int64)


def _numbered(groups: ArrayLike) -> Counts:
    """Groups (N,) of any kind as whole numbers from 0."""
    values = np.asarray(groups, dtype=object)
    if values.ndim != 1:
        raise ValueError(f"groups have shape {values.shape}; give one group per image")
    unknown = [row for row, value in enumerate(values) if value is None]
    if unknown:
        raise ValueError(f"the group in row {unknown[0]} is not known; leave all groups out")
    return np.unique(values.astype(str), return_inverse=True)[1]


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
    return summary(confusion_counts(labels, predictions, merge=merge, classes=classes))


def summary(counted: ConfusionCounts) -> dict[str, Any]:
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
