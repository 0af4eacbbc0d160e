"""Reference scores: reported challenge results, and the agreement between examiners.

The challenge results on its unseen laboratory are marked as reported. None of them was measured
here: neither the models nor the labels of the challenge are available, and the reports of the
participants were not read.

The agreement between examiners is a noise ceiling for classifiers. A second reading is scored
against the first like a classifier: macro-F1 over the classes that occur in the first. A classifier
that reaches this score agrees with the annotation as well as an examiner does. It can exceed it by
learning the habits of one examiner, which does not make it more accurate.

The images with a second reading are a selected sample with its own class frequencies and few images
of rare classes, so consider the intervals and the scores per class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.evaluation.bootstrap import draw_images
from hf_wbc.evaluation.metrics import accuracy, balanced_accuracy, f1, macro_f1, merged_labels
from hf_wbc.preparation.annotations import MISSING, OUTSIDE, RATINGS, AnnotationTable
from hf_wbc.taxonomy import NAMES, NUM_CLASSES, Relation, relation

CHALLENGE = (
    "Help a hematologist out!, Helmholtz Data Challenges 2022, "
    "https://helmholtz-data-challenges.de/web/challenges/challenge-page/93/overview"
)


@dataclass(frozen=True)
class ReportedScore:
    """Score reported by others."""

    method: str
    network: str
    """Network as far as known; empty if unknown."""
    rank: int | None
    """Rank in the challenge."""
    sources: tuple[str, ...]
    target: str
    macro_f1: float
    accuracy: float
    """Reported as micro-F1, which equals accuracy if each image has one class."""
    remarks: str
    citation: str = CHALLENGE
    kind: str = "reported"


_TRAINED_ON = ("acevedo_20", "matek_19")
PARTICIPANTS = (
    ReportedScore(
        "strong augmentation, hue and mean of the target, test-time flips, mean of 5 folds",
        "ResNet-34",
        1,
        _TRAINED_ON,
        "wbc_2",
        0.67,
        0.78,
        "no adversarial loss",
    ),
    ReportedScore(
        "rotation-equivariant network", "ResNet", 2, _TRAINED_ON, "wbc_2", 0.66, 0.76, ""
    ),
    ReportedScore("CycleGAN", "ResNet-18", 3, _TRAINED_ON, "wbc_2", 0.63, 0.75, ""),
    ReportedScore("MDD", "", None, _TRAINED_ON, "wbc_1", 0.67, 0.75, "selected by SND"),
    ReportedScore(
        "MDD",
        "",
        None,
        _TRAINED_ON,
        "wbc_2",
        0.54,
        0.59,
        "selected by SND; 0.67 on wbc_1",
    ),
)
"""Entries of 2022, best first on the test set; the target labels were the organizers'."""


def reported_scores(target: str) -> tuple[ReportedScore, ...]:
    """Return the reported scores of one target, `wbc_2`; empty for other laboratories."""
    return tuple(row for row in PARTICIPANTS if row.target == target)


PAIRS = ((0, 1), (0, 2), (1, 2))
"""Reference and second reading, as indices into `RATINGS`."""
OTHER = "outside the eleven classes"
"""A second reading outside the classes, which counts as an error."""


def noise_ceiling(
    annotations: AnnotationTable,
    *,
    merge: Sequence[str] = (),
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure the agreement of each pair of readings of the same images.

    Images count if both readings exist and the reference is one of the eleven classes; a second
    reading outside of them is an error. Intervals are percentile bootstraps over images.

    Args:
        annotations: Readings of each image.
        merge: Classes to score as one, as FROM=INTO pairs.
        num_resamples: Number of bootstrap resamples.
        level: Nominal coverage of the intervals, in (0, 1).
        seed: Seed of the random numbers.

    Returns:
        JSON values. A pair without such images has `num_images` 0 and no scores.
    """
    into = merged_labels(merge)
    ratings = annotations.ratings
    named = ratings >= 0
    ratings = np.where(named, into[np.where(named, ratings, 0)], ratings)
    return {
        "num_annotated": len(ratings),
        "num_outside": int((ratings[:, 0] == OUTSIDE).sum()),
        "num_looked_at_again": int((ratings[:, 1:] != MISSING).any(1).sum()),
        "unknown_codes": dict(annotations.unknown),
        "bad_lines": list(annotations.bad_lines),
        "merge": list(merge),
        "level": level,
        "num_resamples": num_resamples,
        "seed": seed,
        "pairs": [
            {
                "reference": RATINGS[a],
                "second_look": RATINGS[b],
                **_agreement(ratings[:, a], ratings[:, b], into, num_resamples, level, seed),
            }
            for a, b in PAIRS
        ],
    }


def kappa(confusion: NDArray[Any]) -> NDArray[np.float64]:
    """Return Cohen's kappa (...,) of confusion matrices (..., K, K) (Cohen 1960).

    This is the agreement beyond chance, at most 1; 0 if both readings name only one and the same
    class.
    """
    total = confusion.sum((-2, -1))
    by_chance = (confusion.sum(-1) * confusion.sum(-2)).sum(-1) / np.maximum(total, 1) ** 2
    room = 1 - by_chance
    agreed: NDArray[np.float64] = np.zeros(np.shape(total))
    np.divide(accuracy(confusion) - by_chance, room, out=agreed, where=room > 0)
    return agreed


SCORES = {
    "macro_f1": macro_f1,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "kappa": kappa,
}


def _agreement(
    reference: NDArray[np.int64],
    second: NDArray[np.int64],
    into: NDArray[np.int64],
    num_resamples: int,
    level: float,
    seed: int,
) -> dict[str, Any]:
    """Score a second reading (N,) against a reference (N,), with classes merged by `into` (11,)."""
    both = (reference >= 0) & (second != MISSING)
    if not both.any():
        return {"num_images": 0}
    k = NUM_CLASSES + 1  # the last column is for cells outside the classes; its row is empty
    column = np.where(second[both] == OUTSIDE, NUM_CLASSES, second[both])
    cells = np.bincount(reference[both] * k + column, minlength=k * k)
    confusion = cells.reshape(k, k)
    drawn = draw_images(confusion[None], num_resamples, np.random.default_rng(seed))
    tails = ((1 - level) / 2, (1 + level) / 2)
    return {
        "num_images": int(confusion.sum()),
        "num_classes": int((confusion.sum(1) > 0).sum()),
        **{name: float(of(confusion)) for name, of in SCORES.items()},
        "intervals": {name: np.quantile(of(drawn), tails).tolist() for name, of in SCORES.items()},
        "per_class": _per_class(confusion),
        "lineage_errors": _lineage_errors(confusion, into),
        "confusion": confusion[:NUM_CLASSES].tolist(),
        "class_names": [*NAMES, OTHER],
    }


def _per_class(confusion: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Return the support, agreement and F1 of each class that occurs in the reference."""
    support, scores = confusion.sum(1), f1(confusion)
    return {
        name: {
            "support": int(support[i]),
            "agreement": float(confusion[i, i] / support[i]),
            "f1": float(scores[i]),
        }
        for i, name in enumerate(NAMES)
        if support[i]
    }


def _lineage_errors(confusion: NDArray[np.int64], into: NDArray[np.int64]) -> dict[str, float]:
    """Return the fraction of images by the lineage relation of second reading and reference.

    For merged classes, the closest relation of their members counts.
    """
    members = [np.flatnonzero(into == i).tolist() for i in range(NUM_CLASSES)]
    found = {kind.name.lower(): 0 for kind in Relation if kind != Relation.SAME}
    for a, b in zip(*np.nonzero(confusion[:NUM_CLASSES, :NUM_CLASSES]), strict=True):
        if a != b:
            far = min(relation(i, j) for i in members[a] for j in members[b])
            found[far.name.lower()] += int(confusion[a, b])
    found["outside"] = int(confusion[:, NUM_CLASSES].sum())
    return {name: number / int(confusion.sum()) for name, number in found.items()}
