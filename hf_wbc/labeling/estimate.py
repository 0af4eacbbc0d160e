"""Estimate from few labels how good a model is in a laboratory.

Cells that a strategy chooses are unusual, so a score over them is biased. The estimate therefore
uses a simple random sample that is part of the labels: all cells of a pool have a fixed random
order (by a digest of their names), and every batch takes some cells from its beginning. The cells
up to the first one without a label are a simple random sample of the pool, regardless of what else
a strategy chose or who labeled it.

The number of cells that the model assigns to each class is known exactly for the whole pool, and
only the true classes among them are estimated (post-stratification). Within each predicted class,
the true classes have a Dirichlet posterior; intervals are quantiles of draws from it, which also
hold for classes with few labels, where a bootstrap gives intervals that are too short.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from scipy.special import softmax

from hf_wbc.evaluation.calibration import calibrate, expected_calibration_error
from hf_wbc.evaluation.conformal import ConformalSets, conformal_sets
from hf_wbc.evaluation.metrics import macro_f1, merged_labels
from hf_wbc.labeling.pool import Floats, Ids
from hf_wbc.taxonomy import NAMES, NUM_CLASSES

__all__ = [
    "LearningCurve",
    "LocalCalibration",
    "ScoreEstimate",
    "calibrate_locally",
    "calibrated_on",
    "estimate_scores",
    "extrapolate",
    "random_order",
    "random_sample",
]

DRAWS = 4000
LEVEL = 0.95
PRIOR = 1.0
"""Prior number of cells in each predicted class."""
TRUST = 0.75
"""Part of the prior that is divided over the true classes as the model's own probabilities say;
half of the rest is right and half is spread as the classes are."""
DESIGN_EFFECT = 2.5
"""Cells count as this many times fewer: those of one smear resemble each other, and the heads of
the folds differ from the final one. With less, intervals held the score of three laboratories too
rarely (docs/labeling.md)."""
_SMALLEST = 1e-3
"""Smallest prior share of a class."""
FEWEST_SAMPLED = 10
"""Random cells below which no score is estimated."""


def random_order(image_ids: Sequence[str], seed: int = 0) -> Ids:
    """Return all rows in a random order that depends on nothing but file names and the seed.

    Folders count only where a file name occurs twice, because the page does not know them.
    """
    files = [PurePosixPath(each).name for each in image_ids]
    names = files if len(set(files)) == len(files) else image_ids
    keys = [hashlib.sha256(f"{seed}:{each}".encode()).digest() for each in names]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def random_sample(image_ids: Sequence[str], labeled: Collection[str], seed: int = 0) -> Ids:
    """Return the rows of the cells in random order, up to the first one without a label.

    Args:
        image_ids: Names of all cells of the pool.
        labeled: Names of the cells that were answered, including skipped ones.
        seed: Seed of the order.
    """
    order = random_order(image_ids, seed)
    is_labeled = np.array([image_ids[row] in labeled for row in order], bool)
    return order if is_labeled.all() else order[: int(is_labeled.argmin())]


@dataclass(frozen=True)
class ScoreEstimate:
    """Estimated scores of a laboratory, with intervals of `level`."""

    macro_f1: float
    interval: tuple[float, float]
    accuracy: float
    accuracy_interval: tuple[float, float]
    recalls: dict[str, tuple[float, float, float]]
    """Recall, lower and upper end of its interval for each class with a label."""
    num_sampled: dict[str, int]
    """Random cells of each class."""
    level: float = LEVEL

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def estimate_scores(
    predicted: Ids,
    sample_predicted: Ids,
    sample_labels: Ids,
    *,
    probabilities: Floats | None = None,
    classes: Sequence[int] = (),
    merge: Sequence[str] = (),
    seed: int = 0,
) -> ScoreEstimate:
    """Estimate macro-F1, accuracy and recalls over a pool from a simple random sample.

    Args:
        predicted: Predicted class ids of all N cells of the pool.
        sample_predicted: Predictions of the n sampled cells, by a model that was not trained on
            their labels (n,).
        sample_labels: Their class ids (n,).
        probabilities: Calibrated probabilities (N, 11) of all cells, for the prior.
        classes: Class ids that are known to occur besides those in the sample.
        merge: Classes to score as one, as FROM=INTO.
        seed: Seed of the draws.

    Raises:
        ValueError: For fewer than 10 sampled cells.
    """
    if len(sample_labels) < FEWEST_SAMPLED:
        raise ValueError(
            f"{len(sample_labels)} cells in random order are labeled; at least {FEWEST_SAMPLED} "
            "are needed to estimate a score"
        )
    into = merged_labels(merge)
    everywhere, guessed, true = into[predicted], into[sample_predicted], into[sample_labels]
    present = np.unique([*true, *into[np.array(classes, np.int64)]]).astype(np.int64)
    counts = np.zeros((NUM_CLASSES, NUM_CLASSES))
    np.add.at(counts, (guessed, true), 1 / DESIGN_EFFECT)
    expected = None if probabilities is None else _merged(probabilities, into)
    shares = np.bincount(everywhere, minlength=NUM_CLASSES) / len(everywhere)
    rng = np.random.default_rng(seed)
    confusions = np.zeros((DRAWS, NUM_CLASSES, NUM_CLASSES))
    for guess in np.flatnonzero(shares):
        own = None if expected is None else expected[everywhere == guess].mean(0)
        alpha = counts[guess][present] + _prior(int(guess), present, counts, own)
        confusions[:, present, guess] = shares[guess] * rng.dirichlet(alpha, DRAWS)
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    f1s = macro_f1(confusions)
    diagonal = np.diagonal(confusions, axis1=1, axis2=2)
    accuracies = diagonal.sum(1)
    recalls = diagonal / np.maximum(confusions.sum(2), 1e-12)
    return ScoreEstimate(
        macro_f1=float(f1s.mean()),
        interval=_ends(f1s, tails),
        accuracy=float(accuracies.mean()),
        accuracy_interval=_ends(accuracies, tails),
        recalls={
            NAMES[c]: (float(recalls[:, c].mean()), *_ends(recalls[:, c], tails)) for c in present
        },
        num_sampled={NAMES[c]: int((true == c).sum()) for c in present},
    )


def _prior(guess: int, present: Ids, counts: Floats, expected: Floats | None) -> Floats:
    """Return prior counts of the true classes (K,) among cells with a predicted class."""
    shares = (counts.sum(0)[present] + 1) / (counts.sum() + len(present))
    right = (present == guess).astype(np.float64)
    prior: Floats = PRIOR * (0.5 * right + 0.5 * shares if right.any() else shares)
    if expected is not None:
        own = expected[present] + _SMALLEST
        prior = TRUST * PRIOR * own / own.sum() + (1 - TRUST) * prior
    return prior


def _merged(probabilities: Floats, into: Ids) -> Floats:
    """Return probabilities (N, 11) in which merged classes are added up."""
    found: Floats = probabilities @ np.eye(NUM_CLASSES)[into]
    return found


def _ends(values: Floats, tails: tuple[float, float]) -> tuple[float, float]:
    low, high = np.quantile(values, tails)
    return float(low), float(high)


@dataclass(frozen=True)
class LocalCalibration:
    """Temperature and conformal sets fitted on random cells of a laboratory."""

    temperature: float
    sets: ConformalSets
    num_cells: int
    error_before: float
    """Expected calibration error of the model as it was, on the same cells."""

    @property
    def sentence(self) -> str:
        """What the sets promise."""
        if self.sets.thresholds[0] is None:
            return f"{self.num_cells} random cells are too few for sets: every set has every class."
        return (
            f"For this laboratory the sets hold the right class in {1 - self.sets.alpha:.0%} of "
            f"cells (from {self.num_cells} random cells)."
        )


def calibrate_locally(logits: Floats, labels: Ids, alpha: float = 0.1) -> LocalCalibration:
    """Fit temperature and conformal sets on a random sample of a laboratory.

    Args:
        logits: Logits (n, 11) by a model that was not trained on these cells.
        labels: Class ids (n,).
        alpha: Share of cells whose set may lack the right class.
    """
    temperature = calibrate(logits, labels, biased=False).temperature
    sets = conformal_sets(logits / temperature, labels, alpha=alpha)
    before = expected_calibration_error(logits, labels)
    return LocalCalibration(temperature, sets, len(labels), before)


def calibrated_on(logits: Floats, sample: Ids, true: Ids) -> Floats:
    """Return probabilities (N, 11) of logits (N, 11), scaled by the temperature of a sample.

    Args:
        logits: Logits (N, 11) of all cells.
        sample: Rows of the sample (n,).
        true: Class ids of the sample (n,).
    """
    temperature = calibrate(logits[sample], true, biased=False).temperature
    found: Floats = softmax(logits / temperature, axis=1)
    return found


@dataclass(frozen=True)
class LearningCurve:
    """Scores by number of labels, and what the next labels will probably bring."""

    num_labels: tuple[int, ...]
    scores: tuple[float, ...]
    next_labels: int
    gain: float
    """Expected gain of the next labels."""
    interval: tuple[float, float]
    """Where the gain lies in 8 of 10 cases."""


def extrapolate(
    num_labels: Sequence[int], scores: Sequence[Sequence[float]], next_labels: int = 50
) -> LearningCurve:
    """Extrapolate a learning curve by `score = limit - slope / sqrt(labels)`.

    Args:
        num_labels: Numbers of labels K, increasing.
        scores: Scores of R repetitions for each number (K, R).
        next_labels: Number of further labels.
    """
    values = np.array(scores, np.float64)
    x = 1 / np.sqrt(np.array(num_labels, np.float64))
    ahead = x[-1] - 1 / np.sqrt(num_labels[-1] + next_labels)
    slopes = np.polyfit(x, values, 1)[0]
    gains = np.clip(-slopes * ahead, 0, 1 - values.mean(1)[-1])
    low, high = np.quantile(gains, (0.1, 0.9))
    mean = float(np.clip(gains.mean(), 0, 1))
    return LearningCurve(
        tuple(num_labels), tuple(values.mean(1).tolist()), next_labels, mean,
        (float(low), float(high)),
    )  # fmt: skip
