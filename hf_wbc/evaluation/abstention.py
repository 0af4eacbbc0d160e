"""What a saved model knows of its own doubt.

An `Abstention` is fitted on the sources' validation images, with the logits of the model as it is
saved, and stands in its config.json. Those images have also chosen the weights and the temperature,
so that even for the source it is the coverage on its test images that counts.

What calibration and abstention turned out to be worth on labelled images."""

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
from hf_wbc.evaluation.conformal import ConformalSets, conformal_sets, set_scores
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
    "coverage, rejection and recall are promised for images exchangeable with the sources' "
    "validation images alone; another laboratory's are not: look at what they are there"
)
WANTED = {
    "myeloblast": (class_id("myeloblast"),),
    "immature": tuple(i for i, cell in enumerate(CLASSES) if (cell.maturation or 9) <= 4),
}
"""What a reviewer must not miss: blasts, and every granulocyte younger than a band."""


@dataclass(frozen=True)
class Abstention:
    """Temperature, conformal sets, a reject option and review thresholds of one saved model."""

    temperature: float
    """By which the logits were divided before the model was saved. It lies in the head: whoever
    loads the model must not divide again."""
    sets: Mapping[str, ConformalSets]
    """By kind; of `label_shift` there is one for each target, named `label_shift/TARGET`."""
    rejection: Rejection
    reviews: Mapping[str, ReviewThreshold]
    """By what is not to be missed."""
    num_images: tuple[int, ...]
    """Validation images of the sources, by class (C,)."""

    @property
    def within_class(self) -> ConformalSets:
        """Those that hold within each class, and so for any shares of them: for whoever asks."""
        return self.sets["class"]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for config.json and the record."""
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
        """The inverse of `to_dict`; ValueError for what another version has written."""
        try:
            return cls(
                temperature=values["temperature"],
                sets={name: ConformalSets.from_dict(v) for name, v in values["sets"].items()},
                rejection=Rejection(**values["rejection"]),
                reviews={
                    name: ReviewThreshold(**{**found, "wanted": tuple(found["wanted"])})
                    for name, found in values["reviews"].items()
                },
                num_images=tuple(values["num_images"]),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"what the model says of its doubt is damaged or of another version ({error!r}); "
                "train it again, or use the hf_wbc that wrote it"
            ) from error


def fit_abstention(
    logits: ArrayLike,
    labels: ArrayLike,
    temperature: float,
    priors: Mapping[str, ArrayLike] | None = None,
) -> Abstention:
    """From the saved model's logits (N, 11) and labels (N,) of the sources' validation images.

    `priors` (11,) are those of each target, estimated without labels.
    """
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
        num_images=tuple(np.bincount(np.asarray(labels), minlength=np.shape(logits)[1]).tolist()),
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
    """For JSON, on the images of a domain that are labelled and scored; None when none is.

    Logits (N, 11) of the saved model, and `before` it was calibrated; labels (N,). `merge` and
    `classes` are as for `tally`: probabilities of merged classes are summed, and a set that holds
    one of them holds their union. Sets for the priors of other targets are passed over.
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
    """Logits (N, 11) of which a class holds what is merged `into` (11,) it, the merged none."""
    values = np.full(logits.shape, NEVER)
    for kept in np.unique(into):
        values[:, kept] = logsumexp(logits[:, into == kept], axis=1)
    return values


def merge_sets(sets: np.ndarray, into: Ids) -> np.ndarray:
    """Sets (N, 11) that hold a class when they held one of those merged `into` (11,) it."""
    joined = np.zeros_like(sets)
    for kept in np.unique(into):
        joined[:, kept] = sets[:, into == kept].any(1)
    return joined


def _reviewed(found: Abstention, name: str, logits: Floats, labels: Ids) -> dict[str, Any]:
    """By the saved threshold, the share sent and that found; and by order, every other share."""
    review = found.reviews[name]
    sent, wanted = review.reviews(logits), np.isin(labels, review.wanted)
    return {
        "taught": any(found.num_images[i] for i in review.wanted),
        "sent": float(sent.mean()),
        "found": float(sent[wanted].mean()) if wanted.any() else None,
        "ranking": review_scores(wanted_probability(logits, review.wanted), wanted),
    }
