"""Recognize known kinds of images that show none of the eleven classes, such as platelets.

The energy of the logits rejects what fits no class (see `hf_wbc.evaluation.selective`), and misses
most platelets. Given images of such a kind, a logistic regression on the model's features
separates them from the model's training cells. Its threshold is set on validation cells,
which it then calls an outlier at a fixed rate. It knows the kinds that it was shown, in the
laboratory that they came from: nothing is guaranteed for others.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["FALSE_ALARMS", "OutlierKind", "fit_outlier_kind", "recognize"]

FALSE_ALARMS = 0.005
"""Fraction of the sources' validation cells that may be called one kind of outlier."""
STRENGTH = 0.01
"""Inverse of the L2 penalty on standardized features (scikit-learn's C). Weaker penalties call up
to 15 % of another laboratory's cells platelets (docs/experiments.md)."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class OutlierKind:
    """A linear detector of one kind of outlier on a model's features."""

    name: str
    """For example `platelet`."""
    weight: Floats
    """One weight per feature (d,)."""
    bias: float
    """Above zero, `features @ weight + bias` is an outlier."""
    num_images: int
    """Images of this kind that it was fitted on."""
    recall: float
    """Fraction of the other images of this kind that it recognizes."""

    def scores(self, features: Floats) -> NDArray[np.float64]:
        """Return the score of each image (N,), positive for outliers; features (N, d)."""
        found: NDArray[np.float64] = features.astype(np.float64) @ self.weight + self.bias
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; the weights are little-endian float32 in base64."""
        weight = base64.b64encode(self.weight.astype("<f4").tobytes()).decode()
        facts = {"name": self.name, "bias": self.bias, "weight": weight}
        return {**facts, "num_images": self.num_images, "recall": self.recall}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], num_features: int) -> Self:
        """Create an instance from the result of `to_dict`.

        Raises:
            ValueError: If a value is missing, or the weights are not those of `num_features`.
        """
        try:
            weight = np.frombuffer(base64.b64decode(values["weight"], validate=True), "<f4")
            name, bias = str(values["name"]), float(values["bias"])
            num_images, recall = int(values["num_images"]), float(values["recall"])
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"a kind of outlier is damaged ({error!r})") from error
        if weight.shape != (num_features,) or not np.isfinite([*weight, bias]).all():
            raise ValueError(f"{name} has no finite weights of {num_features} features")
        return cls(name, weight, bias, num_images, recall)


def fit_outlier_kind(name: str, outliers: Floats, cells: Floats, held_out: Floats) -> OutlierKind:
    """Fit a detector of one kind of outlier.

    Every other outlier measures the recall of the detector and takes no part in the fit.

    Args:
        name: Name of the kind.
        outliers: Features of its images (M, d), M at least 20.
        cells: Features of training cells (N, d).
        held_out: Features of validation cells (V, d), which set the threshold.

    Raises:
        ValueError: If there are too few outliers, or no cells.
    """
    from sklearn.linear_model import LogisticRegression

    if len(outliers) < 20 or not len(cells) or not len(held_out):
        raise ValueError(
            f"{name}: {len(outliers)} images, {len(cells)} training and {len(held_out)} validation "
            "cells; at least 20 images and some of either kind of cells are needed"
        )
    fitted, others = outliers[::2], outliers[1::2]
    mean, std = cells.mean(0, dtype=np.float64), cells.std(0, dtype=np.float64) + 1e-6
    inputs = (np.concatenate([cells, fitted]) - mean) / std
    is_outlier = np.arange(len(inputs)) >= len(cells)
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=2000)
    weight = model.fit(inputs, is_outlier).coef_[0] / std
    threshold = np.quantile(held_out @ weight, 1 - FALSE_ALARMS)
    recall = float((others @ weight > threshold).mean())
    return OutlierKind(
        name, weight.astype(np.float32), -float(threshold), len(fitted), round(recall, 4)
    )


def recognize(kinds: Sequence[OutlierKind], features: Floats) -> list[str]:
    """Return the kind of outlier that each image (N,) most resembles; "" for cells."""
    if not kinds:
        return [""] * len(features)
    scores = np.stack([kind.scores(features) for kind in kinds])
    best = scores.argmax(0).tolist()
    return [kinds[i].name if scores[i, row] > 0 else "" for row, i in enumerate(best)]
