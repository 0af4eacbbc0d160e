"""Worst errors of a run, suspected label errors, and the choice of runs to show in detail.

There may be too many methods to show them all. The report shows the baseline, the choices of
selection rules that do not use target labels and, to show the range, the best and the worst method
according to target labels. Each choice comes with its reasons, and a reason that needs target
labels says so.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from hf_wbc.comparison.collect import Run
from hf_wbc.comparison.compare import labels
from hf_wbc.comparison.report.images import Floats, Ids, ScoredImages
from hf_wbc.comparison.result_table import ResultRow
from hf_wbc.evaluation.model_selection import RULES
from hf_wbc.taxonomy import HARM, NUM_CLASSES, Consequence, Relation, consequence, relation

_HARM = np.array(
    [[HARM[consequence(a, b)] for b in range(NUM_CLASSES)] for a in range(NUM_CLASSES)]
)
PER_CONFUSION = 3
"""Maximum number of errors shown per pair of classes, so that other errors are shown too."""
AGREEMENT = 0.8
"""Fraction of the models that must agree on another class."""
CREDIBLE = 0.6
"""Minimum accuracy of the ensemble for questioning labels."""


@dataclass(frozen=True)
class Mistake:
    """Misclassified image."""

    image_id: str
    label: int
    predicted: int
    confidence: float

    @property
    def relation(self) -> Relation:
        """Lineage relation of the label and the prediction."""
        return relation(self.label, self.predicted)

    @property
    def consequence(self) -> Consequence:
        """What the error costs a patient."""
        return consequence(self.label, self.predicted)


def worst_mistakes(images: ScoredImages, num: int) -> list[Mistake]:
    """Return the errors with the highest confidence x harm (`taxonomy.HARM`), worst first.

    A missed blast comes before a false alarm, and both before another stage of maturation.

    Each pair of classes occurs at most PER_CONFUSION times.
    """
    gravity = images.confidence * _HARM[images.labels, images.predicted]
    order = np.lexsort((np.array(images.image_ids), -gravity))
    found: list[Mistake] = []
    seen: Counter[tuple[int, int]] = Counter()
    for i in order[gravity[order] > 0].tolist():
        pair = int(images.labels[i]), int(images.predicted[i])
        if seen[pair] < PER_CONFUSION and len(found) < num:
            seen[pair] += 1
            found.append(Mistake(images.image_ids[i], *pair, float(images.confidence[i])))
    return found


@dataclass(frozen=True)
class LabelSuspect:
    """Image whose label most models contradict with the same other class."""

    image_id: str
    label: int
    consensus: int
    """Class that they predict instead."""
    agreement: float
    """Fraction of the models that predict it."""
    p_label: float
    """Mean probability of the label."""
    p_consensus: float


@dataclass(frozen=True)
class LabelSuspects:
    """Suspected label errors in a set of images, according to an ensemble of models."""

    found: tuple[LabelSuspect, ...]
    """Suspected errors, most suspicious first."""
    num_images: int
    num_models: int
    accuracy: float
    """Accuracy of the mean prediction."""

    @property
    def credible(self) -> bool:
        """Whether the ensemble is accurate enough to question labels."""
        return self.accuracy >= CREDIBLE


def label_suspects(methods: Mapping[str, Sequence[ScoredImages]]) -> LabelSuspects:
    """Find suspected label errors by confident learning on an ensemble of models.

    A label is suspect if the ensemble predicts another class, at least AGREEMENT of the models
    predict that class, and its probability is at least as high as on average over the images
    labeled as that class. Probabilities and votes are averaged over the seeds of each method, then
    over methods. Source: Northcutt et al. 2021 (arXiv:1911.00068).

    Args:
        methods: Scored images of the seeds of each method.

    Raises:
        ValueError: If the models were scored on different images.
    """
    runs = [images for seeds in methods.values() for images in seeds]
    ids, labels = runs[0].image_ids, runs[0].labels
    if any(images.image_ids != ids or (images.labels != labels).any() for images in runs):
        raise ValueError("the runs were scored on different images and cannot be combined")
    if not ids:
        return LabelSuspects((), 0, len(runs), 0.0)
    p = np.mean([np.mean([i.probabilities for i in seeds], 0) for seeds in methods.values()], 0)
    votes = np.mean([np.mean([_one_hot(i.predicted) for i in s], 0) for s in methods.values()], 0)
    consensus, rows = p.argmax(1), np.arange(len(labels))
    agreement = votes[rows, consensus]
    usual = _usual_confidence(p, labels)
    suspect = (consensus != labels) & (agreement >= AGREEMENT)
    suspect &= p[rows, consensus] >= usual[consensus]
    doubt = p[rows, consensus] - p[rows, labels]
    order = [i for i in np.lexsort((np.array(ids), -doubt)).tolist() if suspect[i]]
    found = tuple(
        LabelSuspect(
            image_id=ids[i],
            label=int(labels[i]),
            consensus=int(consensus[i]),
            agreement=float(agreement[i]),
            p_label=float(p[i, labels[i]]),
            p_consensus=float(p[i, consensus[i]]),
        )
        for i in order
    )
    return LabelSuspects(found, len(ids), len(runs), float((consensus == labels).mean()))


def _one_hot(predicted: Ids) -> Floats:
    found: Floats = np.eye(NUM_CLASSES)[predicted]
    return found


def _usual_confidence(p: Floats, labels: Ids) -> Floats:
    """Return the mean probability (C,) of each class over its images; 1 without images."""
    usual = np.ones(p.shape[1])
    for label in np.unique(labels).tolist():
        usual[label] = p[labels == label, label].mean()
    return usual


UNLABELED = tuple(rule.name for rule in RULES if rule.sees == "unlabeled target")
NUM_UNLABELED = 2
BY_LABELS = "chosen by target labels after scoring, to show the range"


@dataclass(frozen=True)
class ChosenRuns:
    """Row that is shown in detail."""

    row: ResultRow
    name: str
    why: tuple[str, ...]
    by_labels: bool
    """Whether it was chosen by target labels only."""

    @property
    def run(self) -> Run:
        """Run with the lowest seed, which is independent of the scores."""
        return self.row.runs[0]


def choose_runs(rows: Sequence[ResultRow], baseline: str) -> list[ChosenRuns]:
    """Choose the rows of one setting and backbone to show, baseline first, each with its reasons.

    Rows whose weights were selected by target labels are excluded, unless there are no others.

    Examples:
        >>> choose_runs([], "source_only")
        []
    """
    names = dict(zip(map(id, rows), labels(rows), strict=True))
    rows = [row for row in rows if row.sees != "target labels"] or rows
    reasons: dict[int, list[tuple[str, bool]]] = {}
    for number, row in enumerate(rows):
        if row.method == baseline:
            reasons.setdefault(number, []).append(("the baseline", False))
    has_target = any(row.targets for row in rows)
    if (ranked := _by_unlabeled_rules(rows)) and len(rows) > 1:
        for place, (number, num_rules) in enumerate(ranked[:NUM_UNLABELED]):
            reason = f"{('first', 'second')[place]} of {len(ranked)} by the mean rank over "
            reason += f"{num_rules} rules that see target images without labels"
            reasons.setdefault(number, []).append((reason, False))
    if has_target and len(rows) > 1 and (best := _by_source(rows)) is not None:
        reason = "highest macro-F1 on the sources' validation images"
        reasons.setdefault(best, []).append((reason, False))
    if len(rows) > 1:
        scores = [row.macro_f1 for row in rows]
        how = BY_LABELS if has_target else "by its test images"
        for number, word in (
            (int(np.argmax(scores)), "highest"),
            (int(np.argmin(scores)), "lowest"),
        ):
            reasons.setdefault(number, []).append((f"{word} macro-F1 of all, {how}", True))
    elif rows:
        reasons.setdefault(0, [("the only method", False)])
    return [
        ChosenRuns(
            rows[i],
            names[id(rows[i])],
            tuple(why for why, _ in given),
            all(seen for _, seen in given),
        )
        for i, given in reasons.items()
    ]


def values_of(run: Run) -> Mapping[str, float]:
    """Return the value of every rule at the evaluation whose weights were kept."""
    step = run.record["selection"]["step"]
    kept = [row for row in run.record["history"] if row["step"] == step]
    return dict(kept[-1]["selection"]) if kept else {}


def _by_unlabeled_rules(rows: Sequence[ResultRow]) -> list[tuple[int, int]]:
    """Return (row, number of rules) sorted by mean rank over the rules.

    A rule ranks rows without a value last. The result is empty if no rule has values.
    """
    tables = [_mean_values(row) for row in rows]
    rules = [name for name in UNLABELED if any(name in table for table in tables)]
    if not rules:
        return []
    from scipy.stats import rankdata

    values = np.array([[table.get(name, -np.inf) for name in rules] for table in tables])
    ranks = rankdata(-np.nan_to_num(values, nan=-np.inf), axis=0).mean(1)
    return [(int(i), len(rules)) for i in np.argsort(ranks, kind="stable")]


def _by_source(rows: Sequence[ResultRow]) -> int | None:
    """Return the row with the highest macro-F1 on the source validation images."""
    values = [_mean_values(row).get("source_val") for row in rows]
    known = [(value, -i) for i, value in enumerate(values) if value is not None]
    return -max(known)[1] if known else None


def _mean_values(row: ResultRow) -> dict[str, float]:
    """Return the mean over seeds of each rule's value, for the rules that every seed has."""
    tables = [values_of(run) for run in row.runs]
    names = set(tables[0]).intersection(*tables[1:])
    return {name: fmean(table[name] for table in tables) for name in sorted(names)}
