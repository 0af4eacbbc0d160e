"""Findings about what goes along with a class or a laboratory without being the cell.

Does the background alone say what it should not: the class, the laboratory, the session?

A linear discriminant sees colours and grain of the frame's border, where no cell is, and is tested
on images that it was not fitted on. What it gets right beyond guessing, a network can get right
without looking at the cell."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_wbc.audit.composition import (
    frame_sizes,
    group_by_domain,
    missing_in_splits,
    prior_distances,
)
from hf_wbc.audit.leaks import DuplicateGroups, group_ties
from hf_wbc.audit.measure import FolderReading
from hf_wbc.preparation.source import Finding
from hf_wbc.taxonomy import NAMES

NUM_FOLDS = 5
MIN_ADVANTAGE = 0.05
"""Part of the way from guessing to certainty below which nothing is given away."""
_NUM_DRAWS = 2000


@dataclass(frozen=True)
class BackgroundProbe:
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


def probe_background(
    border: NDArray[np.float32],
    kinds: NDArray[np.int64],
    names: Sequence[str],
    ties: NDArray[np.int64],
    seed: int = 0,
) -> BackgroundProbe | None:
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
    return BackgroundProbe(
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


_NUM_EXAMPLES = 4


def background_probes(
    reading: FolderReading, repeats: DuplicateGroups, seed: int = 0
) -> dict[str, BackgroundProbe]:
    """What the background tells: the class by domain, the session by domain, and the domain.

    Keys are `class of NAME`, `frame size of NAME` and `domain`; what cannot be asked is missing.
    Where the cell fills the frame, its border shows the cell, and the class is not asked for.
    """
    tied, found = group_ties(reading, repeats), {}
    for number, folder in enumerate(reading.folders):
        if folder.um_per_px is None:
            continue
        rows = reading.where(number)
        labelled = rows[reading.labels[rows] >= 0]
        found[f"class of {folder.name}"] = probe_background(
            reading.border[labelled], reading.labels[labelled], NAMES, tied[labelled], seed
        )
        sizes = frame_sizes(reading, number)
        if len(sizes) > 1:
            common = next(iter(sizes.values()))
            other = (~np.isin(rows, common)).astype(np.int64)
            names = (_px(next(iter(sizes))), "other sizes")
            found[f"frame size of {folder.name}"] = probe_background(
                reading.border[rows], other, names, tied[rows], seed
            )
    if len(reading.folders) > 1:
        domains = [folder.name for folder in reading.folders]
        found["domain"] = probe_background(reading.border, reading.folder, domains, tied, seed)
    return {question: answer for question, answer in found.items() if answer is not None}


def confound_findings(
    reading: FolderReading, answers: Mapping[str, BackgroundProbe]
) -> Iterator[Finding]:
    """Backgrounds and frames that give a class away, and classes that are not where they should."""
    for number, folder in enumerate(reading.folders):
        if (answer := answers.get(f"class of {folder.name}")) and answer.gives_away:
            yield _class_from_background(folder.name, answer)
        if folder.um_per_px is not None:
            yield from _sessions(reading, number, answers.get(f"frame size of {folder.name}"))
        yield from _missing(reading, number)
        yield from _unlabelled(reading, number)
    if (answer := answers.get("domain")) and answer.gives_away:
        yield _domain_from_background(answer)
    yield from _priors(reading)


def _class_from_background(name: str, answer: BackgroundProbe) -> Finding:
    order = np.argsort(answer.recall)[::-1][:3]
    best = ", ".join(f"{_words(answer.names[i])} ({answer.recall[i]:.0%})" for i in order)
    return Finding(
        kind="background_class",
        domains=(name,),
        number=len(answer.names),
        title=f"the background alone tells the class in {answer.balanced_accuracy:.0%} of cases; "
        f"guessing would in {answer.chance:.0%}",
        meaning="The border of a frame, where the cell is not, goes along with the class: another "
        "day, stain, person or place on the smear. It is right most often for "
        f"{best}. A model can use this instead of the cell, and fails where it is otherwise.",
        remedy="Distrust scores within this dataset and judge a model on another laboratory's "
        "cells. Train with stain and brightness jitter. When it is understood, declare "
        "`background_class` in the source.",
    )


def _sessions(
    reading: FolderReading, number: int, answer: BackgroundProbe | None
) -> Iterator[Finding]:
    sizes = frame_sizes(reading, number)
    if len(sizes) < 2:
        return
    main, *others = sizes
    rows = np.concatenate([sizes[size] for size in others])
    labels = reading.labels[rows]
    counts = {NAMES[k]: int(n) for k, n in zip(*np.unique(labels, return_counts=True), strict=True)
              if k >= 0}  # fmt: skip
    classes = (
        ", ".join(f"{_words(name)} {count:,}" for name, count in counts.items()) or "unlabelled"
    )
    colours = [np.median(reading.background[of], axis=0) for of in (sizes[main], rows)]
    shades = " and ".join("RGB " + ", ".join(f"{value:.0f}" for value in c) for c in colours)
    told = ""
    if answer:
        told = (
            f" The background tells the sizes apart in {answer.balanced_accuracy:.0%} of cases, "
            "where guessing reaches 50%, so this looks like another session."
            if answer.gives_away
            else " The background does not tell the sizes apart."
        )
    yield Finding(
        kind="frame_sizes",
        domains=(reading.folders[number].name,),
        number=len(rows),
        title=f"{len(rows):,} frames are not {_px(main)} like the others, but "
        + ", ".join(f"{_px(size)} ({len(sizes[size]):,})" for size in others),
        meaning=f"They are of the classes {classes}. Their background is {shades} in the usual "
        f"frames and in these.{told} Whatever marks a session marks the classes that were taken "
        "in it.",
        remedy="Leave the session out (`frame_px` in the source or mapping names the sizes to "
        "keep), or make sure that it holds every class.",
        rows=tuple((int(of[0]),) for of in sizes.values())[:_NUM_EXAMPLES],
    )


def _missing(reading: FolderReading, number: int) -> Iterator[Finding]:
    missing = missing_in_splits(reading, number)
    for is_rare in (False, True):
        cells = {name: of for name, of in missing.items() if (of[0] < 3) == is_rare}
        if cells:
            words = "; ".join(
                f"{_words(name)} ({count:,} in all) in {', '.join(splits)}"
                for name, (count, splits) in cells.items()
            )
            yield Finding(
                kind="class_missing_in_split",
                domains=(reading.folders[number].name,),
                number=len(cells),
                title=f"missing: {words}",
                meaning="No score of such a split says anything about the class.",
                remedy="Gather more images of it."
                if is_rare
                else "Build the dataset again with "
                "`hf-wbc prepare`: three images are enough for three splits.",
                status="expected" if is_rare else "undeclared",
            )


def _unlabelled(reading: FolderReading, number: int) -> Iterator[Finding]:
    rows = reading.where(number)
    if count := int((reading.labels[rows] < 0).sum()):
        yield Finding(
            kind="unlabelled",
            domains=(reading.folders[number].name,),
            number=count,
            title=f"{count:,} of {len(rows):,} images have no label",
            meaning="They can be a target of adaptation, but nothing that needs a class was asked "
            "of them.",
            remedy="Nothing has to be done.",
            status="expected",
        )


def _domain_from_background(answer: BackgroundProbe) -> Finding:
    return Finding(
        kind="background_domain",
        domains=answer.names,
        number=len(answer.names),
        title=f"the background alone tells the laboratory in {answer.balanced_accuracy:.0%} of "
        f"cases; guessing would in {answer.chance:.0%}",
        meaning="Stain, lamp and camera differ between laboratories. This is what makes a model "
        "fail elsewhere, and the reason for this project.",
        remedy="Judge every model on a laboratory that it was not trained on.",
        status="expected",
    )


def _priors(reading: FolderReading) -> Iterator[Finding]:
    distances = prior_distances(reading)
    if not distances:
        return
    (one, other), largest = max(distances.items(), key=lambda item: item[1])
    counts = group_by_domain(reading)
    only = {
        cell: next(name for name in counts if counts[name][cell])
        for cell in NAMES
        if sum(bool(of[cell]) for of in counts.values()) == 1
    }
    lone = "".join(
        f" {_words(cell).capitalize()} is found in {name} alone." for cell, name in only.items()
    )
    if lone:
        lone += (
            " Such a class goes along with its laboratory: what looks like one may be the other."
        )
    yield Finding(
        kind="class_shares",
        domains=tuple(counts),
        number=len(distances),
        title=f"classes are shared out differently: {one} and {other} differ by {largest:.2f} of 1",
        meaning="The number is the part of one dataset that would have to change class to look "
        f"like the other.{lone}",
        remedy="Balance batches by class and domain (`--balance`), and read scores class by class.",
        status="expected",
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _px(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} px"
