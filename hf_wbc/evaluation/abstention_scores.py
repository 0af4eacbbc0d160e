"""What calibration and abstention turned out to be worth on labelled images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp, softmax

from hf_wbc.evaluation.abstention import Abstention
from hf_wbc.evaluation.calibration import (
    NEVER,
    Floats,
    Ids,
    expected_calibration_error,
    negative_log_likelihood,
)
from hf_wbc.evaluation.conformal import set_scores
from hf_wbc.evaluation.review import aurc, chance, lineage_losses, review_scores
from hf_wbc.evaluation.tally import merged
from hf_wbc.taxonomy import UNLABELLED, class_id


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
    into = merged(merge)
    true = np.where(labels == UNLABELLED, UNLABELLED, into[labels])
    ids = [class_id(name) for name in classes] or np.unique(into)
    chosen = (true != UNLABELLED) & np.isin(true, ids)
    if not chosen.any():
        return None
    labels, true = labels[chosen], true[chosen]
    own = np.asarray(logits, np.float64)[chosen]
    values = pooled(own, into)
    predicted = into[own.argmax(1)]
    confidence = softmax(values, axis=1)[np.arange(len(true)), predicted]
    raw = None if before is None else pooled(np.asarray(before, np.float64)[chosen], into)
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
            kind: set_scores(unions(sets.sets(own), into), true)
            for kind, sets in found.sets.items()
            if kind in ("marginal", "class", f"label_shift/{domain}")
        },
        "rejected": float(found.rejection.rejects(own).mean()),
        "aurc": aurc(confidence, wrong),
        "aurc_lineage": aurc(confidence, lineage_losses(true, predicted)),
        "review": {name: _reviewed(found, name, own, labels) for name in found.reviews},
    }


def pooled(logits: Floats, into: Ids) -> Floats:
    """Logits (N, 11) of which a class holds what is merged `into` (11,) it, the merged none."""
    values = np.full(logits.shape, NEVER)
    for kept in np.unique(into):
        values[:, kept] = logsumexp(logits[:, into == kept], axis=1)
    return values


def unions(sets: np.ndarray, into: Ids) -> np.ndarray:
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
        "ranking": review_scores(chance(logits, review.wanted), wanted),
    }
