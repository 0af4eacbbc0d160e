"""The gravest mistakes of a run, and labels that may be wrong."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hf_wbc.study.report.scored_images import Floats, Ids, ScoredImages
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
class Suspect:
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
class Suspects:
    """What models together say of the labels of a set."""

    found: tuple[Suspect, ...]
    """The most doubtful first."""
    num_images: int
    num_models: int
    accuracy: float
    """Of the mean prediction."""

    @property
    def credible(self) -> bool:
        """Whether the models are right often enough to be asked."""
        return self.accuracy >= CREDIBLE


def label_suspects(methods: Mapping[str, Sequence[ScoredImages]]) -> Suspects:
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
        Suspect(
            image_id=ids[i],
            label=int(labels[i]),
            consensus=int(consensus[i]),
            agreement=float(agreement[i]),
            p_label=float(p[i, labels[i]]),
            p_consensus=float(p[i, consensus[i]]),
        )
        for i in order
    )
    return Suspects(found, len(ids), len(runs), float((consensus == labels).mean()))


def _one_hot(predicted: Ids) -> Floats:
    found: Floats = np.eye(NUM_CLASSES)[predicted]
    return found


def _usual_confidence(p: Floats, labels: Ids) -> Floats:
    """Mean probability (C,) of a class over the images labelled so; 1 for one without an image."""
    usual = np.ones(p.shape[1])
    for label in np.unique(labels).tolist():
        usual[label] = p[labels == label, label].mean()
    return usual
