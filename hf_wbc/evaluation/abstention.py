"""Abstention: the calibration, prediction sets and review thresholds saved with a model.

An `Abstention` is fitted to the source validation images, with the logits of the saved model, and
stored in its config.json. The same images selected the weights and the temperature, so only the
coverage on test images is a valid measure, even for the sources.

`abstention_scores` evaluates calibration and abstention on labeled images.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, softmax

from hf_wbc.evaluation.calibration import (
    NEVER,
    Floats,
    Ids,
    expected_calibration_error,
    negative_log_likelihood,
)
from hf_wbc.evaluation.conformal import SCORES, ConformalSets, conformal_sets, set_scores
from hf_wbc.evaluation.metrics import merged_labels
from hf_wbc.evaluation.selective import (
    Rejection,
    ReviewThreshold,
    aurc,
    lineage_losses,
    rejection,
    review,
    review_scores,
    wanted_probability,
)
from hf_wbc.taxonomy import CLASSES, UNLABELED, class_id

ALPHA = 0.1
REJECTED = 0.05
RECALL = 0.95
GUARANTEE = (
    "coverage, rejection and recall are guaranteed only for images exchangeable with the sources' "
    "validation images, which images of other laboratories are not: see the values measured there"
)
WANTED = {
    "myeloblast": (class_id("myeloblast"),),
    "immature": tuple(i for i, cell in enumerate(CLASSES) if (cell.maturation or 9) <= 4),
}
"""Cells that a reviewer must not miss: blasts, and all granulocytes less mature than a band."""


@dataclass(frozen=True)
class Abstention:
    """Temperature, conformal sets, reject option and review thresholds of one saved model."""

    temperature: float
    """Temperature by which the logits were divided before saving. It is merged into the head, so
    callers must not divide again."""
    sets: Mapping[str, ConformalSets]
    """Conformal sets by kind; `label_shift` has one entry for each target, named
    `label_shift/TARGET`, as it needs the target priors."""
    rejection: Rejection
    reviews: Mapping[str, ReviewThreshold]
    """Review thresholds by the name of the wanted cells."""
    num_images: tuple[int, ...]
    """Number of source validation images of each class (C,)."""

    @property
    def within_class(self) -> ConformalSets:
        """Sets whose coverage holds within each class, and hence for any class priors."""
        return self.sets["class"]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values for config.json and the record."""
        return {
            "temperature": self.temperature,
            "sets": {kind: sets.to_dict() for kind, sets in self.sets.items()},
            "rejection": asdict(self.rejection),
            "reviews": {
                name: {**asdict(found), "wanted": list(found.wanted)}
                for name, found in self.reviews.items()
            },
            "num_images": list(self.num_images),
            "guarantee": GUARANTEE,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Create an instance from the result of `to_dict`.

        Raises:
            ValueError: If the values are damaged or were written by another version.
        """
        try:
            found = cls(
                temperature=values["temperature"],
                sets={name: ConformalSets.from_dict(v) for name, v in values["sets"].items()},
                rejection=Rejection(**values["rejection"]),
                reviews={
                    name: ReviewThreshold(**{**found, "wanted": tuple(found["wanted"])})
                    for name, found in values["reviews"].items()
                },
                num_images=tuple(values["num_images"]),
            )
            found._check()
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"the model's abstention settings are damaged or of another version ({error!r}); "
                "train it again, or use the hf_wbc that wrote it"
            ) from error
        return found

    def _check(self) -> None:
        """Raise TypeError for what would fail, or reject nothing, once there are predictions."""
        sets, reviews = tuple(self.sets.values()), tuple(self.reviews.values())
        limits = [self.rejection.threshold, *(each.threshold for each in reviews)]
        limits += [limit for each in sets for limit in each.thresholds]
        for limit in limits:
            is_number = isinstance(limit, int | float) and not isinstance(limit, bool)
            if limit is not None and not (is_number and abs(limit) <= sys.float_info.max):
                raise TypeError(f"a threshold is {str(limit)[:20]}")
        ids = [each for review in reviews for each in review.wanted]
        if not all(type(each) is int and 0 <= each < len(CLASSES) for each in ids):
            raise TypeError("a reviewed class is none of the classes")
        for each in sets:
            if each.score not in SCORES or len(each.thresholds) != len(CLASSES):
                raise TypeError("a prediction set is of an unknown score or of other classes")


def fit_abstention(
    logits: ArrayLike,
    labels: ArrayLike,
    temperature: float,
    priors: Mapping[str, ArrayLike] | None = None,
) -> Abstention:
    """Fit an `Abstention` to the source validation images.

    Without images, nothing is known: sets hold every class, no image is rejected and all are sent
    to review.

    Args:
        logits: Logits of the saved model (N, 11); N may be 0.
        labels: Class ids (N,).
        temperature: Temperature by which the logits were divided before saving.
        priors: Class priors (11,) by target, estimated without labels.
    """
    num_images, num_classes = np.shape(logits)
    if not num_images:
        unlimited = (None,) * num_classes
        return Abstention(
            temperature=temperature,
            sets={k: ConformalSets("lac", k, ALPHA, unlimited) for k in ("marginal", "class")},
            rejection=Rejection(REJECTED, None),
            reviews={name: ReviewThreshold(ids, RECALL, None) for name, ids in WANTED.items()},
            num_images=(0,) * num_classes,
        )
    sets = {
        kind: conformal_sets(logits, labels, alpha=ALPHA, kind=kind)
        for kind in ("marginal", "class")
    }
    for name, shares in (priors or {}).items():
        sets[f"label_shift/{name}"] = conformal_sets(
            logits, labels, alpha=ALPHA, kind="label_shift", priors=shares
        )
    return Abstention(
        temperature=temperature,
        sets=sets,
        rejection=rejection(logits, REJECTED),
        reviews={name: review(logits, labels, ids, RECALL) for name, ids in WANTED.items()},
        num_images=tuple(np.bincount(np.asarray(labels), minlength=num_classes).tolist()),
    )


def abstention_scores(
    found: Abstention,
    domain: str,
    logits: ArrayLike,
    labels: Ids,
    *,
    before: ArrayLike | None = None,
    merge: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> dict[str, Any] | None:
    """Evaluate calibration and abstention on the labeled and scored images of a domain.

    Args:
        found: Abstention of the saved model.
        domain: Name of the domain; `label_shift` sets for other targets are skipped.
        logits: Logits of the saved model (N, 11).
        labels: Class ids (N,).
        before: Logits before calibration (N, 11).
        merge: Classes to score as one, as in `confusion_counts`: their probabilities are summed,
            and their sets are united.
        classes: Names of the classes to score, as in `confusion_counts`.

    Returns:
        JSON values, or None if no image is labeled and scored.
    """
    into = merged_labels(merge)
    true = np.where(labels == UNLABELED, UNLABELED, into[labels])
    ids = [class_id(name) for name in classes] or np.unique(into)
    chosen = (true != UNLABELED) & np.isin(true, ids)
    if not chosen.any():
        return None
    labels, true = labels[chosen], true[chosen]
    own = np.asarray(logits, np.float64)[chosen]
    values = merge_logits(own, into)
    predicted = into[own.argmax(1)]
    confidence = softmax(values, axis=1)[np.arange(len(true)), predicted]
    raw = None if before is None else merge_logits(np.asarray(before, np.float64)[chosen], into)
    sides = {"before": raw, "after": values}
    wrong = predicted != true
    return {
        "num_images": len(true),
        **{
            name: {when: of(side, true) for when, side in sides.items() if side is not None}
            for name, of in (
                ("ece", expected_calibration_error),
                ("nll", negative_log_likelihood),
            )
        },
        "confidence": float(confidence.mean()),
        "overconfidence": float(confidence.mean() - (~wrong).mean()),
        "conformal": {
            kind: set_scores(merge_sets(sets.sets(own), into), true)
            for kind, sets in found.sets.items()
            if kind in ("marginal", "class", f"label_shift/{domain}")
        },
        "rejected": float(found.rejection.rejects(own).mean()),
        "aurc": aurc(confidence, wrong),
        "aurc_lineage": aurc(confidence, lineage_losses(true, predicted)),
        "review": {name: _reviewed(found, name, own, labels) for name in found.reviews},
    }


def merge_logits(logits: Floats, into: Ids) -> Floats:
    """Return logits (N, 11) with each class merged into the class that `into` (11,) names.

    Classes that are merged into another get the logit NEVER.
    """
    values = np.full(logits.shape, NEVER)
    for kept in np.unique(into):
        values[:, kept] = logsumexp(logits[:, into == kept], axis=1)
    return values


def merge_sets(sets: np.ndarray, into: Ids) -> np.ndarray:
    """Return sets (N, 11) that contain a class if they contained any class merged into it."""
    joined = np.zeros_like(sets)
    for kept in np.unique(into):
        joined[:, kept] = sets[:, into == kept].any(1)
    return joined


def _reviewed(found: Abstention, name: str, logits: Floats, labels: Ids) -> dict[str, Any]:
    """Return the review rate and recall of the saved threshold, and the scores of the ranking."""
    review = found.reviews[name]
    sent, wanted = review.reviews(logits), np.isin(labels, review.wanted)
    return {
        "taught": any(found.num_images[i] for i in review.wanted),
        "sent": float(sent.mean()),
        "found": float(sent[wanted].mean()) if wanted.any() else None,
        "ranking": review_scores(wanted_probability(logits, review.wanted), wanted),
    }
