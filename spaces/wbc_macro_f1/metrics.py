"""Macro-F1 and related scores, all computed from one confusion matrix.

Macro-F1 is the mean F1 over the classes that occur in the references. A prediction of a class that
does not occur counts as an error of the true class and adds no class to the mean. The number of
classes is reported with the score, because scores over different classes are not comparable.

Labels are class ids, indices into `taxonomy.NAMES`. Images with the label -1 are unlabeled: they
are excluded and counted. `confusion_counts` validates and counts; the score functions take any
stack of confusion matrices, so that the bootstrap computes all its resamples at once.

Shape suffixes: N images, K classes left after merging, G groups.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .taxonomy import (
    BLAST_EQUIVALENTS,
    ERYTHROBLAST,
    NAMES,
    NUM_CLASSES,
    UNLABELED,
    Consequence,
    Relation,
    class_id,
    consequence,
    relation,
)

__all__ = [
    "ConfusionCounts",
    "Counts",
    "accuracy",
    "balanced_accuracy",
    "cohen_kappa",
    "confusion_counts",
    "consequence_scores",
    "f1",
    "macro_f1",
    "matthews_correlation",
    "merged_labels",
    "score",
    "summarize",
]

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class ConfusionCounts:
    """Confusion matrices of one or more groups of images, after merging and selecting classes.

    Attributes:
        names: Names of the K classes that remain after merging, in taxonomy order.
        members: For each of them, the original class ids that it includes.
        confusions: Number of images, (G, K, K): group, true class, predicted class. G is 1 where
            no groups are given.
        grouped: Whether groups are given.
        merge: The FROM=INTO pairs that were applied.
        classes: Names of the classes that are scored; empty if all that occur.
        num_unlabeled: Images excluded because their label is -1.
        num_other: Images excluded because their class is not among `classes`.
    """

    names: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    confusions: Counts
    grouped: bool
    merge: tuple[str, ...]
    classes: tuple[str, ...]
    num_unlabeled: int
    num_other: int

    @property
    def confusion(self) -> Counts:
        """Number of images (K, K): true class, predicted class."""
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
    """Count labels against predictions, for each group of images if groups are given.

    Args:
        labels: True class ids (N,); -1 for unlabeled images.
        predictions: Predicted class ids (N,).
        merge: Classes to score as one, as FROM=INTO pairs; applied to labels and predictions.
        classes: Names of the classes to score. Images of other classes are excluded; predictions of
            other classes are kept as errors. Empty: all classes that occur.
        groups: Patient or slide of each image (N,), of any type.

    Raises:
        ValueError: If an id, a name or a merge is invalid, the lengths differ, or no image is left
            to score.
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
    num_unlabeled = int((true == UNLABELED).sum())
    return ConfusionCounts(
        names=tuple(NAMES[i] for i in kept),
        members=tuple(tuple(np.flatnonzero(into == i).tolist()) for i in kept),
        confusions=np.bincount(cell, minlength=(group.max() + 1) * k * k).reshape(-1, k, k),
        grouped=groups is not None,
        merge=tuple(merge),
        classes=tuple(classes),
        num_unlabeled=num_unlabeled,
        num_other=len(true) - num_unlabeled - int(scored.sum()),
    )


def merged_labels(merge: Sequence[str]) -> Counts:
    """Return the class id (11,) as which each of the eleven classes is scored.

    Args:
        merge: FROM=INTO pairs of class names.

    Raises:
        ValueError: If a pair is malformed, a class is unknown or merged twice, or merges form a
            chain.
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
            raise ValueError(f"merge {pair!r} merges a class into itself; omit it")
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
    """Select the images (N,) that are labeled and of the chosen classes."""
    labeled: NDArray[np.bool_] = true != UNLABELED
    if not labeled.any():
        raise ValueError(f"none of the {len(true)} images has a label, so nothing can be scored")
    ids = [class_id(name) for name in _listed(classes, "classes")]
    for i in ids:
        if into[i] != i:
            raise ValueError(f"class {NAMES[i]!r} is merged; choose {NAMES[into[i]]!r}")
    scored = labeled & np.isin(into[true], ids) if ids else labeled
    if not scored.any():
        found = ", ".join(NAMES[i] for i in np.unique(into[true[labeled]]))
        raise ValueError(f"no image of the classes {', '.join(classes)}; there are {found}")
    return scored


def _listed(names: Sequence[str], what: str) -> Sequence[str]:
    if isinstance(names, str):
        raise ValueError(f"{what} is the text {names!r}; give a list, such as [{names!r}]")
    return names


def _ids(values: ArrayLike, what: str, lowest: int) -> Counts:
    """Validate a vector of class ids from `lowest` to 10 and return it as int64."""
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
    """Number the groups (N,) from 0."""
    values = np.asarray(groups, dtype=object)
    if values.ndim != 1:
        raise ValueError(f"groups have shape {values.shape}; give one group per image")
    unknown = [row for row, value in enumerate(values) if value is None]
    if unknown:
        raise ValueError(
            f"the group in row {unknown[0]} is missing; give every image a group, or no groups"
        )
    return np.unique(values.astype(str), return_inverse=True)[1]


def score(
    labels: ArrayLike,
    predictions: ArrayLike,
    *,
    merge: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> dict[str, Any]:
    """Compute every score of N predictions as JSON values.

    Arguments and errors are those of `confusion_counts`; the result is that of `summarize`.

    Examples:
        >>> scores = score([2, 2, 9, 9], [2, 2, 9, 10])
        >>> round(scores["macro_f1"], 3), scores["num_classes"], scores["worst_class"]["name"]
        (0.833, 2, 'monocyte')
    """
    return summarize(confusion_counts(labels, predictions, merge=merge, classes=classes))


def summarize(counted: ConfusionCounts) -> dict[str, Any]:
    """Compute every score of a confusion matrix as JSON values; fractions are in [0, 1].

    `lineage_errors` are fractions of all images: mistaken for the neighboring stage of maturation
    (`one_step`), for another class of the same lineage, or for a class of another lineage.
    `consequences` grades the same errors by what they cost a patient (`consequence_scores`).
    """
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
    far = _mildest(counted.members, relation)
    return {
        "macro_f1": float(macro_f1(confusion)),
        "num_classes": len(per_class),
        "accuracy": float(accuracy(confusion)),
        "balanced_accuracy": float(balanced_accuracy(confusion)),
        "mcc": float(matthews_correlation(confusion)),
        "kappa": float(cohen_kappa(confusion)),
        "worst_class": {"name": worst, "f1": per_class[worst]["f1"]},
        "per_class": per_class,
        "lineage_errors": {
            kind.name.lower(): int(confusion[far == kind].sum()) / num_images
            for kind in Relation
            if kind != Relation.SAME
        },
        "consequences": consequence_scores(confusion, counted.members),
        "confusion": confusion.tolist(),
        "class_names": list(counted.names),
        "num_images": num_images,
        "num_unlabeled": counted.num_unlabeled,
        "num_other": counted.num_other,
        "merge": list(counted.merge),
        "classes": list(counted.classes),
    }


def consequence_scores(confusion: NDArray[Any], members: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Grade the errors of a confusion matrix by what they cost a patient.

    Args:
        confusion: Number of images (K, K): true class, predicted class.
        members: For each class, the ids of the original classes that it includes.

    Returns:
        Fractions of all images with a `minor`, `serious` and `critical` error (see
        `taxonomy.Consequence`), and the numbers of the confusions that matter most, each as `num`
        of the `of` images in which it could happen: `missed_blasts` (a blast or promyelocyte that
        is called anything else), `blasts_as_lymphocytes`, `false_blast_alarms` (another cell that
        is called a blast or promyelocyte) and `red_as_white` (a nucleated red cell in the
        differential). A merged class has the mildest grade of its members.
    """
    grades, total = _mildest(members, consequence), int(confusion.sum())

    def are(ids: Sequence[int]) -> NDArray[np.bool_]:
        return np.array([all(i in ids for i in some) for some in members])

    blast, red = are(BLAST_EQUIVALENTS), are((ERYTHROBLAST,))
    lymphocyte = are((class_id("lymphocyte_typical"),))

    def confused(true: NDArray[np.bool_], called: NDArray[np.bool_]) -> dict[str, int]:
        return {"num": int(confusion[true][:, called].sum()), "of": int(confusion[true].sum())}

    return {
        **{
            kind.name.lower(): int(confusion[grades == kind].sum()) / total
            for kind in Consequence
            if kind != Consequence.NONE
        },
        "missed_blasts": confused(blast, ~blast),
        "blasts_as_lymphocytes": confused(blast, lymphocyte),
        "false_blast_alarms": confused(~blast, blast),
        "red_as_white": confused(red, ~red),
    }


def f1(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Compute F1 of each class (..., K) of confusions (..., K, K); 0 where no image is right."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _ratio(2 * hits, confusion.sum(-1) + confusion.sum(-2))


def macro_f1(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Compute the mean F1 (...,) over the classes present in the references.

    Args:
        confusion: Number of images (..., K, K): true class, predicted class.
    """
    return _mean(f1(confusion), confusion.sum(-1) > 0)


def balanced_accuracy(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Compute the mean recall (...,) over the classes present; confusions (..., K, K)."""
    support = confusion.sum(-1)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    return _mean(_ratio(hits, support), support > 0)


def accuracy(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Compute the fraction of correct predictions (...,) of confusions (..., K, K)."""
    return _ratio(np.trace(confusion, axis1=-2, axis2=-1), confusion.sum((-2, -1)))


def matthews_correlation(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Compute Matthews' correlation coefficient (...,) of confusions (..., K, K), in [-1, 1].

    The multi-class form of Gorodkin 2004 (doi 10.1016/j.compbiolchem.2004.09.006), as in
    scikit-learn; 0 where all references or all predictions are of one class.
    """
    counts = np.asarray(confusion, np.float64)
    true, predicted, total = counts.sum(-1), counts.sum(-2), counts.sum((-2, -1))
    covariance = np.trace(counts, axis1=-2, axis2=-1) * total - (true * predicted).sum(-1)
    spread = (total**2 - (true**2).sum(-1)) * (total**2 - (predicted**2).sum(-1))
    return _ratio(covariance, np.sqrt(spread))


def cohen_kappa(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Compute Cohen's kappa (...,) of confusions (..., K, K): agreement beyond that by chance.

    Cohen 1960 (doi 10.1177/001316446002000104); 0 where chance alone would agree on everything.
    """
    counts = np.asarray(confusion, np.float64)
    total = counts.sum((-2, -1))
    by_chance = _ratio((counts.sum(-1) * counts.sum(-2)).sum(-1), total**2)
    return _ratio(accuracy(counts) - by_chance, 1 - by_chance)


def _mean(values: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.float64]:
    return _ratio((values * present).sum(-1), present.sum(-1))


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Divide, with 0 where the denominator is 0."""
    ratio = np.zeros(np.shape(part))
    np.divide(part, whole, out=ratio, where=np.asarray(whole) > 0)
    return ratio


def _mildest(
    members: Sequence[Sequence[int]], grade: Callable[[int, int], int]
) -> NDArray[np.int64]:
    """Grade each pair of classes (K, K), 0 on the diagonal; merged classes by the mildest pair."""
    return np.array(
        [
            [0 if a is b else min(grade(i, j) for i in a for j in b) for b in members]
            for a in members
        ]
    )
