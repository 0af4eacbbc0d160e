"""How much of an embedding is laboratory, and how much is class.

Robustness index. Among the k nearest neighbors of all cells by cosine, SO are of the same class and
another laboratory, OS are of another class and the same laboratory; the index is SO / (SO + OS)
(Koemen et al. 2025, "PathoROB", arXiv:2507.17845). Above .5, the class outweighs the laboratory.
Cells of the same group (patient, slide) are no neighbors of each other. Of several k, the one with
the highest balanced accuracy of a kNN vote for the class is taken. The package `croma` computes the
same.

Average performance drop. A linear probe for the class is trained on balanced cells of two
laboratories, then on sets in which each class comes more and more from one laboratory, and always
tested on the same balanced cells. The drop is the mean of accuracy / balanced accuracy - 1 over the
biased sets and repetitions (ibid.): 0 is robust, and the closer to -1, the more the probe relied on
the laboratory.

Predictability. Balanced accuracy of a linear discriminant that predicts the laboratory from the
principal components of the embedding, cross-validated, on equally many cells of each class from
each laboratory.

Shape suffixes: N cells, d features, k neighbors.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.audit.embedding import balanced_sample
from hf_wbc.taxonomy import UNLABELED

__all__ = [
    "RepresentationScores",
    "RobustnessIndex",
    "average_performance_drop",
    "probe_accuracies",
    "representation_scores",
    "robustness_index",
]

Floats = NDArray[np.floating[Any]]
Ids = NDArray[np.int64]

NEIGHBORS = (5, 11, 21)
"""Candidates for k."""
NUM_COMPONENTS = 100
"""Principal components from which the laboratory is predicted."""
FEWEST_PER_CELL = 12
"""Fewest cells of a class in a laboratory that take part in probes."""
MOST_PER_CELL = 60
BIASES = (0.0, 1 / 3, 2 / 3, 1.0)
"""Share by which a class is moved to one laboratory, in each training set of a probe."""
PROBE_STRENGTHS = tuple(10.0 ** np.linspace(-8, 4, 15))
"""Candidates for the inverse regularization of a probe, as in PathoROB."""
MAX_CELLS = 4000
"""Most cells of an embedding that are measured, sampled evenly over the laboratories."""
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class RobustnessIndex:
    """The robustness index of an embedding."""

    value: float
    """SO / (SO + OS), in [0, 1]; .5 if no neighbor is informative."""
    k: int
    """Number of neighbors."""
    support: float
    """Share of the cells with an informative neighbor; a small one makes the value unreliable."""
    knn_balanced_accuracy: float
    """Balanced accuracy of a k-nearest-neighbor vote for the class."""


@dataclass(frozen=True)
class RepresentationScores:
    """What an embedding holds of class and laboratory."""

    num_cells: int
    index: RobustnessIndex
    performance_drop: float | None
    """Average performance drop, the mean over all pairs of laboratories; None if no pair has two
    classes with enough cells."""
    laboratory_accuracy: float | None
    """Balanced accuracy of predicting the laboratory; None with too few cells."""
    laboratory_chance: float | None
    """What a guess would reach."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def representation_scores(
    features: Floats,
    labels: Ids,
    laboratories: Ids,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> RepresentationScores | None:
    """Measure an embedding of labeled cells of several laboratories.

    Args:
        features: Embedding (N, d).
        labels: Class ids (N,); cells with -1 are left out.
        laboratories: Laboratory of each cell (N,), from 0.
        groups: Patient or slide of each cell (N,), unique over laboratories; None if unknown.
        seed: Seed of the probes.

    Returns:
        None unless some class occurs in two laboratories and there are two classes.
    """
    known = np.flatnonzero(labels != UNLABELED)
    if not len(known):
        return None
    known = known[balanced_sample(laboratories[known], MAX_CELLS)]
    values, true, where = features[known], labels[known], laboratories[known]
    rows = known.tolist()
    names = [str(row) if groups is None else groups[row] for row in rows]
    shared = sum(len(np.unique(where[true == each])) > 1 for each in np.unique(true))
    if not shared or len(np.unique(true)) < 2 or len(known) <= min(NEIGHBORS):
        return None
    accuracy, chance = _laboratory_accuracy(values, true, where, names, seed)
    drops = [
        average_performance_drop(accuracies)
        for pair in combinations(np.unique(where).tolist(), 2)
        if (accuracies := probe_accuracies(values, true, where, pair, seed=seed)) is not None
    ]
    return RepresentationScores(
        num_cells=len(known),
        index=robustness_index(values, true, where, names),
        performance_drop=float(np.mean(drops)) if drops else None,
        laboratory_accuracy=accuracy,
        laboratory_chance=chance,
    )


def robustness_index(
    features: Floats,
    labels: Ids,
    laboratories: Ids,
    groups: Sequence[str],
    candidates: Sequence[int] = NEIGHBORS,
) -> RobustnessIndex:
    """Compute the robustness index of an embedding (N, d).

    Args:
        features: Embedding (N, d).
        labels: Classes (N,).
        laboratories: Laboratories (N,).
        groups: Patient or slide of each cell (N,).
        candidates: Numbers of neighbors to choose from; those of N or more are left out.

    Raises:
        ValueError: If no candidate is smaller than the number of cells.
    """
    usable = [k for k in candidates if 0 < k < len(labels)]
    if not usable:
        raise ValueError(
            f"{len(labels)} cells are too few for {', '.join(map(str, candidates))} neighbors"
        )
    codes = np.unique(np.asarray(groups, str), return_inverse=True)[1]
    neighbors, is_known = _neighbors(features, codes, max(usable))
    accuracies = [_vote_accuracy(labels, neighbors[:, :k], is_known[:, :k]) for k in usable]
    best = int(np.argmax(accuracies))
    k = usable[best]
    near, known = neighbors[:, :k], is_known[:, :k]
    same_class = labels[near] == labels[:, None]
    same_place = laboratories[near] == laboratories[:, None]
    favorable, unfavorable = known & same_class & ~same_place, known & ~same_class & same_place
    informative = int(favorable.sum() + unfavorable.sum())
    return RobustnessIndex(
        value=float(favorable.sum() / informative) if informative else 0.5,
        k=k,
        support=float((favorable | unfavorable).any(1).mean()),
        knn_balanced_accuracy=accuracies[best],
    )


def _neighbors(features: Floats, groups: Ids, k: int) -> tuple[Ids, NDArray[np.bool_]]:
    """Return the k nearest cells of other groups (N, k), nearest first, and which exist (N, k)."""
    values = features.astype(np.float64)
    rows = values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-12)
    found = np.empty((len(rows), k), np.int64)
    known = np.empty((len(rows), k), bool)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        similarity = rows[part] @ rows.T
        similarity[groups[part, None] == groups] = -np.inf
        best = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        values_there = np.take_along_axis(similarity, best, 1)
        order = np.lexsort((best, -values_there), axis=1)
        found[part] = np.take_along_axis(best, order, 1)
        known[part] = np.isfinite(np.take_along_axis(values_there, order, 1))
    return found, known


def _vote_accuracy(labels: Ids, neighbors: Ids, is_known: NDArray[np.bool_]) -> float:
    """Return the balanced accuracy of the neighbors' vote; ties go to the class listed first.

    Cells without neighbors do not take part.
    """
    first, inverse = np.unique(labels, return_index=True, return_inverse=True)[1:]
    rank = np.argsort(np.argsort(first))  # classes in the order of their first cell
    codes = rank[inverse]
    votes = np.stack(
        [((codes[neighbors] == each) & is_known).sum(1) for each in range(len(first))], 1
    )
    used = is_known.any(1)
    right = votes[used].argmax(1) == codes[used]
    return float(np.mean([right[codes[used] == each].mean() for each in np.unique(codes[used])]))


def average_performance_drop(accuracies: Floats) -> float:
    """Return the average performance drop of probe accuracies (S, R).

    Args:
        accuracies: Balanced accuracy of each training set and repetition; the first row is that of
            the balanced set.
    """
    return float((accuracies[1:] / accuracies[0]).mean(0).mean() - 1)


def probe_accuracies(
    features: Floats,
    labels: Ids,
    laboratories: Ids,
    pair: tuple[int, int],
    *,
    repetitions: int = 5,
    seed: int = 0,
) -> Floats | None:
    """Train probes for the class on more and more biased sets of two laboratories.

    Of the cells of a class in a laboratory, a quarter is for tests, an eighth selects the
    regularization, and at most half trains: n (1 + bias) cells from one laboratory and n (1 - bias)
    from the other, where the classes take turns.

    Returns:
        Balanced accuracies (len(BIASES), repetitions); None unless both laboratories have
        FEWEST_PER_CELL cells of two classes.
    """
    cells = [
        [np.flatnonzero((labels == each) & (laboratories == place)) for place in pair]
        for each in np.unique(labels)
    ]
    cells = [both for both in cells if min(map(len, both)) >= FEWEST_PER_CELL]
    if len(cells) < 2:
        return None
    generator = np.random.default_rng(seed)
    found = np.empty((len(BIASES), repetitions))
    most = min(MOST_PER_CELL, *(len(rows) for both in cells for rows in both))
    for column in range(repetitions):
        drawn = [[generator.permutation(rows)[:most] for rows in both] for both in cells]
        for row, bias in enumerate(BIASES):
            found[row, column] = _probe(features, labels, list(_parts(drawn, most, bias)))
    return found


def _parts(
    drawn: Sequence[Sequence[Ids]], most: int, bias: float
) -> Iterator[tuple[Ids, Ids, Ids]]:
    """Yield the training, validation and test rows of each class and laboratory."""
    num_test, num_validation = most // 4, max(1, most // 8)
    half = (most - num_test - num_validation) // 2
    for place, both in enumerate(drawn):
        for side, rows in enumerate(both):
            sign = 1 if place % 2 == side else -1
            test, rest = rows[:num_test], rows[num_test:]
            num = round(half * (1 + sign * bias))
            yield rest[num_validation : num_validation + num], rest[:num_validation], test


def _probe(features: Floats, labels: Ids, parts: Sequence[tuple[Ids, Ids, Ids]]) -> float:
    """Return the balanced accuracy of a logistic regression on the test rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    train, validation, test = (np.concatenate(each) for each in zip(*parts, strict=True))
    # A regularized linear classifier depends on the span of its training rows only.
    basis = np.linalg.qr(features[train].astype(np.float64).T)[0]
    inside = {name: features[rows] @ basis for name, rows in (("t", train), ("v", validation))}
    best, kept = -1.0, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weak regularization may not converge in 100 steps
        for strength in PROBE_STRENGTHS:
            model = LogisticRegression(C=strength, random_state=0)
            model.fit(inside["t"], labels[train])
            score = balanced_accuracy_score(labels[validation], model.predict(inside["v"]))
            if score > best:
                best, kept = score, model
    assert kept is not None
    return float(balanced_accuracy_score(labels[test], kept.predict(features[test] @ basis)))


def _laboratory_accuracy(
    features: Floats, labels: Ids, laboratories: Ids, groups: Sequence[str], seed: int
) -> tuple[float | None, float | None]:
    """Return the balanced accuracy of predicting the laboratory, and that of a guess."""
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

    generator = np.random.default_rng(seed)
    kept = []
    places = np.unique(laboratories)
    for each in np.unique(labels):
        both = [np.flatnonzero((labels == each) & (laboratories == place)) for place in places]
        num = min(*map(len, both), MOST_PER_CELL)
        kept += [generator.permutation(rows)[:num] for rows in both]
    rows = np.sort(np.concatenate(kept))
    codes = np.unique(np.asarray(groups, str)[rows], return_inverse=True)[1]
    per_place = [len(np.unique(codes[laboratories[rows] == place])) for place in places]
    if min(per_place) < FEWEST_PER_CELL:
        return None, None
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
    size = min(NUM_COMPONENTS, len(rows) - 1, features.shape[1])
    values = PCA(size, random_state=seed).fit_transform(features[rows].astype(np.float64))
    classifier = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    predicted = cross_val_predict(classifier, values, laboratories[rows], groups=codes, cv=folds)
    return float(balanced_accuracy_score(laboratories[rows], predicted)), 1 / len(places)
