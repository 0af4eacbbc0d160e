"""Findings about what goes along with a class or a laboratory without being the cell."""

from collections.abc import Iterator, Mapping

import numpy as np

from hf_wbc.data.audit.appearance import frame_sizes
from hf_wbc.data.audit.background import Guess, guess
from hf_wbc.data.audit.classes import by_domain, missing_in_splits, prior_distances
from hf_wbc.data.audit.read import Reading
from hf_wbc.data.audit.repeats import Repeats, ties
from hf_wbc.prepare.source import Finding
from hf_wbc.taxonomy import NAMES

_NUM_EXAMPLES = 4


def ask_background(reading: Reading, repeats: Repeats, seed: int = 0) -> dict[str, Guess]:
    """What the background tells: the class by domain, the session by domain, and the domain.

    Keys are `class of NAME`, `frame size of NAME` and `domain`; what cannot be asked is missing.
    Where the cell fills the frame, its border shows the cell, and the class is not asked for.
    """
    tied, found = ties(reading, repeats), {}
    for number, folder in enumerate(reading.folders):
        if folder.um_per_px is None:
            continue
        rows = reading.where(number)
        labelled = rows[reading.labels[rows] >= 0]
        found[f"class of {folder.name}"] = guess(
            reading.border[labelled], reading.labels[labelled], NAMES, tied[labelled], seed
        )
        sizes = frame_sizes(reading, number)
        if len(sizes) > 1:
            common = next(iter(sizes.values()))
            other = (~np.isin(rows, common)).astype(np.int64)
            names = (_px(next(iter(sizes))), "other sizes")
            found[f"frame size of {folder.name}"] = guess(
                reading.border[rows], other, names, tied[rows], seed
            )
    if len(reading.folders) > 1:
        domains = [folder.name for folder in reading.folders]
        found["domain"] = guess(reading.border, reading.folder, domains, tied, seed)
    return {question: answer for question, answer in found.items() if answer is not None}


def confound_findings(reading: Reading, answers: Mapping[str, Guess]) -> Iterator[Finding]:
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


def _class_from_background(name: str, answer: Guess) -> Finding:
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


def _sessions(reading: Reading, number: int, answer: Guess | None) -> Iterator[Finding]:
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


def _missing(reading: Reading, number: int) -> Iterator[Finding]:
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


def _unlabelled(reading: Reading, number: int) -> Iterator[Finding]:
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


def _domain_from_background(answer: Guess) -> Finding:
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


def _priors(reading: Reading) -> Iterator[Finding]:
    distances = prior_distances(reading)
    if not distances:
        return
    (one, other), largest = max(distances.items(), key=lambda item: item[1])
    counts = by_domain(reading)
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
