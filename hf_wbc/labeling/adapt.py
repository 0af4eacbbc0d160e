"""Adapt a head to a laboratory with few labels, and never make it worse knowingly.

Cross-validation on the labeled cells chooses the strength of a head of `hf_wbc.labeling.few_shot`.
The head replaces the source's only if it is better on the held-out cells by clearly more than one
standard error of the paired difference; otherwise the source head stays, and the result says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from hf_wbc.data.labels_file import FEWEST_NEW
from hf_wbc.evaluation.calibration import NEVER
from hf_wbc.evaluation.metrics import score
from hf_wbc.inference.gallery import ReferenceSet
from hf_wbc.labeling.few_shot import (
    FAMILIES,
    FewShotProblem,
    Head,
    LinearFewShotHead,
    Settings,
    class_weights,
    make_problem,
)
from hf_wbc.labeling.pool import Floats, Ids, Pool
from hf_wbc.models import PretrainedModel
from hf_wbc.taxonomy import NAMES, NUM_CLASSES
from hf_wbc.text import did_you_mean, plural, shorten_list, with_spaces

__all__ = [
    "Adaptation",
    "adapt",
    "best_of",
    "folds_of",
    "gain_over",
    "problem_of",
    "prototypes_of",
    "quick_head",
    "source_head",
    "too_few",
    "unadapted",
]

GUARD, GUARD_SMALL = 1.0, 10.0
"""Standard errors by which held-out cells must improve: 1 + 10 / n of n labels, because the error
itself is uncertain with few labels."""
FOLDS = 5
REPEATS = 2
FEWEST_LABELS = 8
"""Labels below which nothing is fitted."""
QUICK: Settings = (1.0, 0.01)
"""Settings of the head between two batches, which is not cross-validated."""


@dataclass(frozen=True, eq=False)
class Adaptation:
    """A head for one laboratory, and how it came about."""

    head: Head
    family: str
    """Family of the head; `source` if the source's head stays."""
    settings: Settings | None
    rows: Ids
    """Rows of the pool that were fitted (n,)."""
    labels: Ids
    """Their class ids (n,)."""
    held_out_logits: Floats
    """Logits (n, 11) of each labeled cell by heads that were not fitted to it."""
    gain: float
    """Weighted accuracy on held-out cells minus the source's."""
    standard_error: float
    sentences: tuple[str, ...]
    """What happened, for people."""

    @property
    def is_adapted(self) -> bool:
        """Whether the labels changed the head."""
        return self.family != "source"

    def logits(self, features: Floats) -> Floats:
        """Return logits (N, 11) of features (N, d)."""
        return self.head.logits(np.asarray(features, np.float64))


def source_head(pretrained: PretrainedModel) -> LinearFewShotHead:
    """Return the head of a trained model."""
    head = pretrained.classifier.head
    weight, bias = (each.detach().cpu().numpy().astype(np.float64) for each in head.parameters())
    return LinearFewShotHead(weight, bias)


def prototypes_of(reference: ReferenceSet) -> Floats | None:
    """Return the mean feature (11, d) of each class in a reference set; None without one."""
    gallery = reference.gallery
    if gallery is None:
        return None
    found = np.full((NUM_CLASSES, gallery.features.shape[1]), np.nan)
    for c in np.unique(gallery.labels):
        found[c] = gallery.features[gallery.labels == c].mean(0)
    return found


def quick_head(pool: Pool, rows: Ids, labels: Ids, source: LinearFewShotHead) -> Head:
    """Return a head that is good enough to choose the next cells; without labels, the source's."""
    usable = _usable(labels, source)
    if not usable.any():
        return source
    problem = problem_of(pool, rows[usable], labels[usable], source)
    return FAMILIES["logistic"][0](problem, np.arange(int(usable.sum())), QUICK)


def adapt(
    pool: Pool,
    rows: Ids,
    labels: Ids,
    source: LinearFewShotHead,
    *,
    family: str = "logistic",
    prototypes: Floats | None = None,
    guard: float | None = None,
    seed: int = 0,
) -> Adaptation:
    """Fit a head to labeled cells of a pool.

    Args:
        pool: All cells of the laboratory.
        rows: Rows of the labeled cells (n,).
        labels: Their class ids (n,).
        source: The model's own head.
        family: One of `FAMILIES`; the head `last_block` is `adapt_last_block`.
        prototypes: Source prototypes (11, d), see `prototypes_of`.
        guard: Standard errors by which held-out cells must improve; None is 1 + 10 / n.
        seed: Seed of the folds.

    Returns:
        The new head, or the source's where no gain can be shown.

    Raises:
        ValueError: For an unknown family.
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown head {family!r}; {did_you_mean(family, FAMILIES)}")
    usable = _usable(labels, source)
    notes = _left_out(labels[~usable])
    rows, labels = rows[usable], labels[usable]
    source_logits = source.logits(pool.features[rows].astype(np.float64))
    reason = too_few(labels)
    if reason:
        return _stay(source, rows, labels, source_logits, (0.0, 0.0), (*notes, reason))
    problem = problem_of(pool, rows, labels, source, prototypes)
    settings, held_out = _cross_validated(problem, family, seed)
    gain, error, is_shown = gain_over(held_out, source_logits, labels, guard)
    if not is_shown:
        why = (
            f"The source head stays: on held-out labels the new one is better by {gain:+.3f} with "
            f"a standard error of {error:.3f}, which is no proof of a gain."
        )
        return _stay(source, rows, labels, source_logits, (gain, error), (*notes, why))
    head = FAMILIES[family][0](problem, np.arange(len(rows)), settings)
    why = (
        f"{len(rows)} labels changed the head ({family}): held-out labels are right more often by "
        f"{gain:.3f} (standard error {error:.3f})."
    )
    return Adaptation(
        head, family, settings, rows, labels, held_out.mean(0), gain, error, (*notes, why)
    )


def unadapted(pool: Pool, rows: Ids, labels: Ids, source: LinearFewShotHead) -> Adaptation:
    """Return the source's own head, with its logits of the labeled cells."""
    logits = source.logits(pool.features[rows].astype(np.float64))
    return _stay(source, rows, labels, logits, (0.0, 0.0), ("The model is judged as it is.",))


def held_out_scores(
    pool: Pool, adaptation: Adaptation, source: LinearFewShotHead, sizes: Sequence[int],
    repeats: int = 8, seed: int = 0,
) -> list[list[float]]:  # fmt: skip
    """Return macro-F1 on held-out labeled cells after fitting to fewer labels.

    Args:
        pool: All cells.
        adaptation: An adaptation with a head of its own.
        source: The model's own head.
        sizes: Numbers of labels K to fit to, each less than the number of labels.
        repeats: Random choices R of the labels for each number.
        seed: Seed of the choices.

    Returns:
        Scores (K, R).
    """
    assert adaptation.settings is not None
    problem = problem_of(pool, adaptation.rows, adaptation.labels, source)
    rng, fit = np.random.default_rng(seed), FAMILIES[adaptation.family][0]
    found = []
    for size in sizes:
        row = []
        for _ in range(repeats):
            order = rng.permutation(len(adaptation.rows))
            head = fit(problem, np.sort(order[:size]), adaptation.settings)
            predicted = head.logits(problem.features[order[size:]]).argmax(1)
            row.append(float(score(problem.labels[order[size:]], predicted)["macro_f1"]))
        found.append(row)
    return found


def problem_of(
    pool: Pool,
    rows: Ids,
    labels: Ids,
    source: LinearFewShotHead,
    prototypes: Floats | None = None,
) -> FewShotProblem:
    """Prepare a fit to labeled cells of a pool; arguments as of `adapt`."""
    return make_problem(
        pool.features[rows].astype(np.float64), labels, source,
        pool.features[_subsample(len(pool))].astype(np.float64), prototypes,
    )  # fmt: skip


def _subsample(num: int, at_most: int = 4000) -> Ids:
    """Return evenly spaced rows, enough for means and standard deviations."""
    rows: Ids = np.unique(np.linspace(0, num - 1, min(num, at_most)).astype(np.int64))
    return rows


def _usable(labels: Ids, source: LinearFewShotHead) -> NDArray[np.bool_]:
    """Return which cells can be fitted: those of classes that the source has or 3 labels open."""
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    possible = (source.bias > NEVER / 2) | (counts >= FEWEST_NEW)
    usable: NDArray[np.bool_] = possible[labels]
    return usable


def _left_out(labels: Ids) -> tuple[str, ...]:
    counts = np.bincount(labels, minlength=NUM_CLASSES)
    return tuple(
        f"{with_spaces(NAMES[c])} has {plural(counts[c], 'label')}; the model lacks this class "
        f"and needs {FEWEST_NEW} to predict it."
        for c in np.flatnonzero(counts)
    )


def too_few(labels: Ids) -> str:
    """Return why nothing can be fitted to labels (n,); empty if something can."""
    if len(labels) < FEWEST_LABELS:
        found = "no label" if not len(labels) else plural(len(labels), "label")
        return f"The source head stays: {found} so far, give at least {FEWEST_LABELS}."
    names = [NAMES[c] for c in np.unique(labels)]
    if len(names) < 2:
        return (
            f"The source head stays: all {len(labels)} labels are {shorten_list(names)}, and one "
            "class teaches no difference."
        )
    return ""


def _stay(
    source: LinearFewShotHead,
    rows: Ids,
    labels: Ids,
    logits: Floats,
    gain: tuple[float, float],
    sentences: tuple[str, ...],
) -> Adaptation:
    return Adaptation(source, "source", None, rows, labels, logits, *gain, sentences)


def folds_of(labels: Ids, seed: int) -> list[Ids]:
    """Return the fold (n,) of each cell for each repetition; classes are spread over the folds."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(REPEATS):
        order = rng.permutation(len(labels))
        order = order[np.argsort(labels[order], kind="stable")]
        fold = np.empty(len(labels), np.int64)
        fold[order] = (np.arange(len(labels)) + rng.integers(FOLDS)) % FOLDS
        found.append(fold)
    return found


def _cross_validated(problem: FewShotProblem, family: str, seed: int) -> tuple[Settings, Floats]:
    """Return the best settings of a family, and held-out logits (R, n, 11) with them."""
    folds = folds_of(problem.labels, seed)
    fit, grid = FAMILIES[family]
    found = [_cross_fit(problem, fit, settings, folds) for settings in grid]
    place = best_of(found, problem.labels)
    return grid[place], found[place]


def _cross_fit(
    problem: FewShotProblem, fit: Any, settings: Settings, folds: Sequence[Ids]
) -> Floats:
    """Return the logits (R, n, 11) of each cell by heads that were not fitted to its fold."""
    found = np.empty((len(folds), len(problem.labels), NUM_CLASSES))
    for repeat, fold in enumerate(folds):
        for number in range(FOLDS):
            held_out = np.flatnonzero(fold == number)
            if len(held_out):
                head = fit(problem, np.flatnonzero(fold != number), settings)
                found[repeat, held_out] = head.logits(problem.features[held_out])
    return found


def best_of(found: Sequence[Floats], labels: Ids) -> int:
    """Return the most cautious of the settings within one standard error of the best.

    Settings are compared by the weighted log loss of held-out cells, which is less noisy than the
    number of errors.
    """
    weights = class_weights(labels)
    rows = np.arange(len(labels))
    losses = np.array([
        -log_softmax(logits, axis=2)[:, rows, labels].mean(0) for logits in found
    ])  # fmt: skip
    best = int((losses @ weights).argmin())
    for place in range(best):
        gaps = losses[place] - losses[best]
        mean = float(gaps @ weights)
        if mean <= float(np.sqrt((weights**2 * (gaps - mean) ** 2).sum())) * 0.5:
            return place
    return best


def gain_over(
    held_out: Floats, before: Floats, labels: Ids, guard: float | None = None
) -> tuple[float, float, bool]:
    """Return how much more often held-out cells are right, its standard error, and if it is shown.

    Cells are weighted by class, as in the fit.

    Args:
        held_out: Logits (R, n, 11) of heads that were not fitted to the cells.
        before: Logits (n, 11) to compare them with.
        labels: Class ids (n,).
        guard: Standard errors that show a gain; None is 1 + 10 / n.
    """
    weights = class_weights(labels)
    right = (held_out.argmax(2) == labels).mean(0)
    gaps = right - (before.argmax(1) == labels)
    gain = float(gaps @ weights)
    error = float(np.sqrt((weights**2 * (gaps - gain) ** 2).sum()))
    limit = GUARD + GUARD_SMALL / len(labels) if guard is None else guard
    return gain, error, gain > limit * error
