"""The gravest mistakes of a run, and labels that may be wrong.

Which rows of a table are drawn in detail, and why; a reason that needs target labels says so.

Dozens of methods cannot all be looked at. Drawn are the baseline, what the rules without target
labels would take, and, to show the range, the best and the worst that target labels tell."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from hf_wbc.comparison.collect import Run
from hf_wbc.comparison.compare import labels
from hf_wbc.comparison.report.images import Floats, Ids, ScoredImages
from hf_wbc.comparison.table import ResultRow
from hf_wbc.evaluation.model_selection import RULES
from hf_wbc.taxonomy import NUM_CLASSES, Relation, relation

RELATIONS = np.array(
    [[relation(a, b) for b in range(NUM_CLASSES)] for a in range(NUM_CLASSES)], dtype=np.int64
)
PER_CONFUSION = 3
"""Mistakes of one kind that are shown, so that others are seen too."""
AGREEMENT = 0.8
"""Part of the models that must name the same other class."""
CREDIBLE = 0.6
"""Accuracy of the models together below which they do not question a label."""


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for another class."""

    image_id: str
    label: int
    predicted: int
    confidence: float

    @property
    def relation(self) -> Relation:
        """How far apart the two are."""
        return relation(self.label, self.predicted)


def worst_mistakes(images: ScoredImages, num: int) -> list[Mistake]:
    """The mistakes with the highest confidence x lineage distance (1 to 3), the gravest first.

    Of each pair of classes there are at most PER_CONFUSION.
    """
    gravity = images.confidence * RELATIONS[images.labels, images.predicted]
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
    """An image whose label most models contradict in the same way."""

    image_id: str
    label: int
    consensus: int
    """The class that they name instead."""
    agreement: float
    """Part of the models that name it."""
    p_label: float
    """Mean probability of the label."""
    p_consensus: float


@dataclass(frozen=True)
class LabelSuspects:
    """What models together say of the labels of a set."""

    found: tuple[LabelSuspect, ...]
    """The most doubtful first."""
    num_images: int
    num_models: int
    accuracy: float
    """Of the mean prediction."""

    @property
    def credible(self) -> bool:
        """Whether the models are right often enough to be asked."""
        return self.accuracy >= CREDIBLE


def label_suspects(methods: Mapping[str, Sequence[ScoredImages]]) -> LabelSuspects:
    """Confident learning (Northcutt et al. 2021, arXiv:1911.00068) on what methods say together.

    The probabilities are means over each method's seeds, then over the methods. A label is suspect
    when most models name one other class, as surely as they are on average of images labelled so.
    ValueError when the models were asked for other images.
    """
    runs = [images for seeds in methods.values() for images in seeds]
    ids, labels = runs[0].image_ids, runs[0].labels
    if any(images.image_ids != ids or (images.labels != labels).any() for images in runs):
        raise ValueError("the runs were scored on other images, and cannot be asked together")
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
    """Mean probability (C,) of a class over the images labelled so; 1 for one without an image."""
    usual = np.ones(p.shape[1])
    for label in np.unique(labels).tolist():
        usual[label] = p[labels == label, label].mean()
    return usual


UNLABELED = tuple(rule.name for rule in RULES if rule.sees == "unlabelled target")
NUM_UNLABELED = 2
BY_LABELS = "chosen with target labels after all was scored, to show the range"


@dataclass(frozen=True)
class ChosenRuns:
    """A row that is drawn in detail."""

    row: ResultRow
    name: str
    why: tuple[str, ...]
    by_labels: bool
    """Whether target labels alone chose it."""

    @property
    def run(self) -> Run:
        """Of the lowest seed, which no score has picked."""
        return self.row.runs[0]


def choose_runs(rows: Sequence[ResultRow], baseline: str) -> list[ChosenRuns]:
    """Rows of one sheet and backbone to draw, the baseline first, each once with all its reasons.

    Rows whose weights were chosen by target labels are not among them, unless there are no others.

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
    if (ranked := _by_unlabelled_rules(rows)) and len(rows) > 1:
        for place, (number, num_rules) in enumerate(ranked[:NUM_UNLABELED]):
            words = f"{('first', 'second')[place]} of {len(ranked)} by the mean rank over "
            words += f"{num_rules} rules that see target images without labels"
            reasons.setdefault(number, []).append((words, False))
    if has_target and len(rows) > 1 and (best := _by_source(rows)) is not None:
        words = "highest macro-F1 on the sources' validation images"
        reasons.setdefault(best, []).append((words, False))
    if len(rows) > 1:
        scores = [row.macro_f1 for row in rows]
        how = BY_LABELS if has_target else "by its test images"
        for number, word in (
            (int(np.argmax(scores)), "highest"),
            (int(np.argmin(scores)), "lowest"),
        ):
            reasons.setdefault(number, []).append((f"{word} macro-F1 of all, {how}", True))
    elif rows:
        reasons.setdefault(0, [("the only one", False)])
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
    """Every rule's value at the evaluation whose weights were kept."""
    step = run.record["selection"]["step"]
    kept = [row for row in run.record["history"] if row["step"] == step]
    return dict(kept[-1]["selection"]) if kept else {}


def _by_unlabelled_rules(rows: Sequence[ResultRow]) -> list[tuple[int, int]]:
    """(row, rules that rank) by mean rank; rows of which a rule has no value are ranked last by it.

    None are ranked where no rule has a value.
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
    """The row with the highest macro-F1 on the sources' validation images."""
    values = [_mean_values(row).get("source_val") for row in rows]
    known = [(value, -i) for i, value in enumerate(values) if value is not None]
    return -max(known)[1] if known else None


def _mean_values(row: ResultRow) -> dict[str, float]:
    """Mean over seeds of each rule's value, of the rules that every seed has."""
    tables = [values_of(run) for run in row.runs]
    names = set(tables[0]).intersection(*tables[1:])
    return {name: fmean(table[name] for table in tables) for name in sorted(names)}
