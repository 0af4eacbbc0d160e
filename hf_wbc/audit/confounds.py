"""Confounders: what correlates with a class or a laboratory without being the cell.

A linear discriminant sees only color and grain of the frame's border, which does not show the cell,
and is tested on images that it was not fitted on. Whatever it predicts better than chance, a
network can also predict without looking at the cell.
"""

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
from hf_wbc.audit.measure import Folder, FolderReading
from hf_wbc.preparation.source import Finding
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import with_spaces

NUM_FOLDS = 5
MIN_ADVANTAGE = 0.05
"""Smallest relevant gain over chance, relative to the gain of a perfect prediction."""
_NUM_DRAWS = 2000
_NUM_EXAMPLES = 4


@dataclass(frozen=True)
class BackgroundProbe:
    """How well the background distinguishes K kinds of images."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    """Number of images of each kind."""
    recall: tuple[float, ...]
    """Share of each kind that is recognized."""
    recall_interval: tuple[tuple[float, float], ...]
    """95 % interval of each recall."""
    balanced_accuracy: float
    """Mean of `recall`."""
    interval: tuple[float, float]
    """95 % interval of `balanced_accuracy`, by resampling images."""
    chance: float
    """Balanced accuracy of guessing."""
    shuffled: float
    """Balanced accuracy of the same procedure with shuffled kinds."""
    left_out: tuple[str, ...]
    """Kinds with too few images."""

    @property
    def gives_away(self) -> bool:
        """Whether the prediction is significantly better than chance, and by a relevant amount."""
        advantage = (self.balanced_accuracy - self.chance) / (1 - self.chance)
        return self.interval[0] > self.chance and advantage >= MIN_ADVANTAGE


def probe_background(
    border: NDArray[np.float32],
    kinds: NDArray[np.int64],
    names: Sequence[str],
    ties: NDArray[np.int64],
    seed: int = 0,
) -> BackgroundProbe | None:
    """Predict the kind of N images from their borders, by cross-validation.

    Args:
        border: Border features (N, d) of `measure`.
        kinds: Index into `names` (N,).
        names: Names of the kinds.
        ties: Sets of rows (N,) that share a fold, such as duplicates.
        seed: Seed of folds and intervals.

    Returns:
        None if fewer than two kinds have an image for every fold.
    """
    rng = np.random.default_rng(seed)
    folds = _folds(kinds, ties, rng)
    present, counts = np.unique(kinds, return_counts=True)
    enough = np.array([len(np.unique(folds[kinds == kind])) == NUM_FOLDS for kind in present], bool)
    queries = present[enough]
    if len(queries) < 2:
        return None
    rows = np.isin(kinds, queries)
    predicted = _cross_validated(border[rows], kinds[rows], folds[rows])
    right = predicted == kinds[rows]
    numbers = counts[enough]
    recall = np.array([right[kinds[rows] == kind].mean() for kind in queries])
    draws = rng.binomial(numbers, recall, (_NUM_DRAWS, len(queries))) / numbers
    shuffled = rng.permutation(kinds[rows])
    control = _cross_validated(border[rows], shuffled, _folds(shuffled, ties[rows], rng))
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    bounds = np.quantile(draws.mean(axis=1), (0.025, 0.975))
    return BackgroundProbe(
        names=tuple(names[kind] for kind in queries),
        numbers=tuple(numbers.tolist()),
        recall=tuple(recall.tolist()),
        recall_interval=tuple(zip(low.tolist(), high.tolist(), strict=True)),
        balanced_accuracy=float(recall.mean()),
        interval=(float(bounds[0]), float(bounds[1])),
        chance=1 / len(queries),
        shuffled=float(
            np.mean([(control == shuffled)[shuffled == kind].mean() for kind in queries])
        ),
        left_out=tuple(names[kind] for kind in present[~enough]),
    )


def _folds(
    kinds: NDArray[np.int64], ties: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Assign a fold to each image (N,); ties are assigned in random order, evenly for each kind."""
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
    """Predict the kind of each image with a model of the other folds (N,)."""
    predicted = np.full(len(kinds), -1)
    for fold in range(NUM_FOLDS):
        held_out = folds == fold
        if held_out.any() and not held_out.all():
            predicted[held_out] = _discriminate(
                border[~held_out], kinds[~held_out], border[held_out]
            )
    return predicted


def _discriminate(
    known: NDArray[np.float32], kinds: NDArray[np.int64], queries: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Apply Fisher's linear discriminant with equal priors and slight shrinkage."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    spread = known.std(axis=0)
    spread[spread == 0] = 1
    present = np.unique(kinds)
    if len(present) == 1:
        return np.full(len(queries), present[0])
    model = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage=1e-3, priors=np.full(len(present), 1 / len(present))
    )
    model.fit((known / spread).astype(np.float64), kinds)
    predicted: NDArray[np.int64] = model.predict((queries / spread).astype(np.float64))
    return predicted


def background_probes(
    reading: FolderReading, duplicates: DuplicateGroups, seed: int = 0
) -> dict[str, BackgroundProbe]:
    """Probe the background for the class and the session of each domain, and for the domain.

    Keys are `class of NAME`, `frame size of NAME` and `domain`; probes with too few images are
    missing.
    The class is not probed if cells fill the frame, because the border then shows the cell.
    """
    tied, found = group_ties(reading, duplicates), {}
    for number, folder in enumerate(reading.folders):
        if folder.um_per_px is None:
            continue
        rows = reading.where(number)
        labeled = rows[reading.labels[rows] >= 0]
        found[f"class of {folder.name}"] = probe_background(
            reading.border[labeled], reading.labels[labeled], NAMES, tied[labeled], seed
        )
        sizes = frame_sizes(reading, number)
        if len(sizes) > 1:
            common = next(iter(sizes.values()))
            other = (~np.isin(rows, common)).astype(np.int64)
            names = (f"{size_text(next(iter(sizes)))} px", "other sizes")
            found[f"frame size of {folder.name}"] = probe_background(
                reading.border[rows], other, names, tied[rows], seed
            )
    if len(reading.folders) > 1:
        domains = [folder.name for folder in reading.folders]
        found["domain"] = probe_background(reading.border, reading.folder, domains, tied, seed)
    return {name: probe for name, probe in found.items() if probe is not None}


def confound_findings(
    reading: FolderReading, probes: Mapping[str, BackgroundProbe]
) -> Iterator[Finding]:
    """Yield findings about revealing backgrounds, frame sizes, and missing or unequal classes."""
    for number, folder in enumerate(reading.folders):
        if (probe := probes.get(f"class of {folder.name}")) and probe.gives_away:
            yield _class_from_background(folder.name, probe)
        if folder.um_per_px is not None:
            yield from _sessions(reading, number, probes.get(f"frame size of {folder.name}"))
        yield from _empty(folder)
        yield from _missing(reading, number)
        yield from _unlabeled(reading, number)
    if (probe := probes.get("domain")) and probe.gives_away:
        yield _domain_from_background(probe)
    yield from _priors(reading)


def _class_from_background(name: str, probe: BackgroundProbe) -> Finding:
    order = np.argsort(probe.recall)[::-1][:3]
    best = ", ".join(f"{with_spaces(probe.names[i])} ({probe.recall[i]:.0%})" for i in order)
    return Finding(
        kind="background_class",
        domains=(name,),
        number=len(probe.names),
        title=f"the background alone predicts the class with {probe.balanced_accuracy:.0%} "
        f"balanced accuracy; chance is {probe.chance:.0%}",
        meaning="The border of a frame, which does not show the cell, correlates with the class, "
        "for example because of a different day, stain, operator or position on the smear. Recall "
        "is "
        f"highest for {best}. A model can use this instead of the cell, and then fails elsewhere.",
        remedy="Do not rely on scores within this dataset; test models on another laboratory's "
        "cells. Train with stain and brightness jitter. Once the cause is understood, declare "
        "`background_class` in the source.",
    )


def _sessions(
    reading: FolderReading, number: int, probe: BackgroundProbe | None
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
        ", ".join(f"{with_spaces(name)} {count:,}" for name, count in counts.items()) or "unlabeled"
    )
    colors = [np.median(reading.background[of], axis=0) for of in (sizes[main], rows)]
    shades = " and ".join("RGB " + ", ".join(f"{value:.0f}" for value in c) for c in colors)
    verdict = ""
    if probe:
        verdict = (
            " The background distinguishes the sizes with "
            f"{probe.balanced_accuracy:.0%} balanced accuracy (chance is 50%), so they are "
            "probably from different sessions."
            if probe.gives_away
            else " The background does not distinguish the sizes."
        )
    yield Finding(
        kind="frame_sizes",
        domains=(reading.folders[number].name,),
        number=len(rows),
        title=f"{len(rows):,} frames are not {size_text(main)} px like the others but "
        + ", ".join(f"{size_text(size)} px ({len(sizes[size]):,})" for size in others),
        meaning=f"Their classes are {classes}. The background is {shades} in the usual "
        f"frames and in these, respectively.{verdict} Anything that is typical of a session is "
        "also typical of the classes photographed in it.",
        remedy="Leave the session out (`frame_px` in the source or mapping names the sizes to "
        "keep), or make sure that it contains every class.",
        rows=tuple((int(of[0]),) for of in sizes.values())[:_NUM_EXAMPLES],
    )


def _empty(folder: Folder) -> Iterator[Finding]:
    empty = [split.split for split in folder.splits if not len(split)]
    if empty:
        yield Finding(
            kind="empty_split",
            domains=(folder.name,),
            number=len(empty),
            title=f"no images in {', '.join(empty)}",
            meaning="Images of one patient and duplicates stay together, and there are too few "
            "independent sets of them for three splits. Nothing can be measured on such a split.",
            remedy="Collect images of more patients.",
            status="expected",
        )


def _missing(reading: FolderReading, number: int) -> Iterator[Finding]:
    missing = missing_in_splits(reading, number)
    for is_rare in (False, True):
        cells = {name: of for name, of in missing.items() if (of[0] < 3) == is_rare}
        if cells:
            details = "; ".join(
                f"{with_spaces(name)} ({count:,} in total) in {', '.join(splits)}"
                for name, (count, splits) in cells.items()
            )
            yield Finding(
                kind="class_missing_in_split",
                domains=(reading.folders[number].name,),
                number=len(cells),
                title=f"missing: {details}",
                meaning="Scores on such a split say nothing about the class.",
                remedy="Collect more images of the class."
                if is_rare
                else "Build the dataset again with "
                "`hf-wbc prepare`: three images are enough for three splits.",
                status="expected" if is_rare else "undeclared",
            )


def _unlabeled(reading: FolderReading, number: int) -> Iterator[Finding]:
    rows = reading.where(number)
    if count := int((reading.labels[rows] < 0).sum()):
        yield Finding(
            kind="unlabeled",
            domains=(reading.folders[number].name,),
            number=count,
            title=f"{count:,} of {len(rows):,} images have no label",
            meaning="They can be an adaptation target, but checks that need a class skip them.",
            remedy="No action is needed.",
            status="expected",
        )


def _domain_from_background(probe: BackgroundProbe) -> Finding:
    return Finding(
        kind="background_domain",
        domains=probe.names,
        number=len(probe.names),
        title=f"the background alone predicts the laboratory with {probe.balanced_accuracy:.0%} "
        f"balanced accuracy; chance is {probe.chance:.0%}",
        meaning="Stain, lamp and camera differ between laboratories. This is why models fail in "
        "other laboratories.",
        remedy="Test every model on a laboratory that it was not trained on.",
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
        f" {with_spaces(cell).capitalize()} occurs only in {name}." for cell, name in only.items()
    )
    if lone:
        lone += " Such a class cannot be distinguished from the appearance of its laboratory."
    yield Finding(
        kind="class_shares",
        domains=tuple(counts),
        number=len(distances),
        title=f"class shares differ: {one} and {other} have a total variation distance of "
        f"{largest:.2f}",
        meaning="The distance is the share of one dataset that would have to change class to match "
        f"the other.{lone}",
        remedy="Balance batches by class and domain (`--balance`), and compare scores by class.",
        status="expected",
    )


def size_text(size: Sequence[int]) -> str:
    """Format a frame size in pixels: `360 × 363`."""
    return f"{size[0]} × {size[1]}"
