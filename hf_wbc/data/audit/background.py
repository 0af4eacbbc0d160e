"""Does the background alone say what it should not: the class, the laboratory, the session?

A linear discriminant sees colours and grain of the frame's border, where no cell is, and is tested
on images that it was not fitted on. What it gets right beyond guessing, a network can get right
without looking at the cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_FOLDS = 5
MIN_ADVANTAGE = 0.05
"""Part of the way from guessing to certainty below which nothing is given away."""
_NUM_DRAWS = 2000


@dataclass(frozen=True)
class Guess:
    """How well the background tells K kinds of images apart."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    """Images of each kind."""
    recall: tuple[float, ...]
    """Part of each kind that is recognised."""
    recall_interval: tuple[tuple[float, float], ...]
    balanced_accuracy: float
    """Mean of `recall`."""
    interval: tuple[float, float]
    """95 % interval of `balanced_accuracy`, by drawing images again."""
    chance: float
    """What guessing reaches."""
    shuffled: float
    """What the same procedure reaches when the names are dealt at random."""
    left_out: tuple[str, ...]
    """Kinds with too few images to ask."""

    @property
    def gives_away(self) -> bool:
        """Whether it is better than guessing, beyond doubt and by enough to matter."""
        advantage = (self.balanced_accuracy - self.chance) / (1 - self.chance)
        return self.interval[0] > self.chance and advantage >= MIN_ADVANTAGE


def guess(
    border: NDArray[np.float32],
    kinds: NDArray[np.int64],
    names: Sequence[str],
    ties: NDArray[np.int64],
    seed: int = 0,
) -> Guess | None:
    """Tell the kinds of N images apart by their borders (N, d), by cross-validation.

    `kinds` (N,) index `names`; rows of one tie (N,) are never parted. None when fewer than two
    kinds have an image for every fold.
    """
    rng = np.random.default_rng(seed)
    folds = _folds(kinds, ties, rng)
    present, counts = np.unique(kinds, return_counts=True)
    enough = np.array([len(np.unique(folds[kinds == kind])) == NUM_FOLDS for kind in present], bool)
    asked = present[enough]
    if len(asked) < 2:
        return None
    rows = np.isin(kinds, asked)
    answers = _cross_validated(border[rows], kinds[rows], folds[rows])
    right = answers == kinds[rows]
    numbers = counts[enough]
    recall = np.array([right[kinds[rows] == kind].mean() for kind in asked])
    draws = rng.binomial(numbers, recall, (_NUM_DRAWS, len(asked))) / numbers
    shuffled = rng.permutation(kinds[rows])
    control = _cross_validated(border[rows], shuffled, _folds(shuffled, ties[rows], rng))
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    bounds = np.quantile(draws.mean(axis=1), (0.025, 0.975))
    return Guess(
        names=tuple(names[kind] for kind in asked),
        numbers=tuple(numbers.tolist()),
        recall=tuple(recall.tolist()),
        recall_interval=tuple(zip(low.tolist(), high.tolist(), strict=True)),
        balanced_accuracy=float(recall.mean()),
        interval=(float(bounds[0]), float(bounds[1])),
        chance=1 / len(asked),
        shuffled=float(np.mean([(control == shuffled)[shuffled == kind].mean() for kind in asked])),
        left_out=tuple(names[kind] for kind in present[~enough]),
    )


def _folds(
    kinds: NDArray[np.int64], ties: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """A fold for each image (N,): ties are dealt in random order, each kind's evenly."""
    _, first, tie = np.unique(ties, return_index=True, return_inverse=True)
    folds = np.empty(len(first), dtype=np.int64)
    order = rng.permutation(len(first))
    for kind in np.unique(kinds):
        mine = order[kinds[first[order]] == kind]
        folds[mine] = np.arange(len(mine)) % NUM_FOLDS
    return folds[tie]


def _cross_validated(
    border: NDArray[np.float32], kinds: NDArray[np.int64], folds: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The kind that is guessed for each image by a model of the other folds (N,)."""
    answers = np.full(len(kinds), -1)
    for fold in range(NUM_FOLDS):
        held_out = folds == fold
        if held_out.any() and not held_out.all():
            answers[held_out] = _discriminate(border[~held_out], kinds[~held_out], border[held_out])
    return answers


def _discriminate(
    known: NDArray[np.float32], kinds: NDArray[np.int64], asked: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Fisher's linear discriminant with equal priors and a little shrinkage."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    spread = known.std(axis=0)
    spread[spread == 0] = 1
    present = np.unique(kinds)
    if len(present) == 1:
        return np.full(len(asked), present[0])
    model = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=1e-3, priors=np.full(len(present), 1 / len(present))
    )
    model.fit((known / spread).astype(np.float64), kinds)
    answers: NDArray[np.int64] = model.predict((asked / spread).astype(np.float64))
    return answers
