"""Measure a model for a benchmark: its scores in laboratories, under corruptions, and its features.

One dataset is the benchmark's own and is listed first; the corruptions are laid over its cells. The
others show what is left in other laboratories.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_wbc.audit.representation import robustness_index
from hf_wbc.data.dataset import DomainSplit, load_split, load_splits
from hf_wbc.data.schema import SPLITS
from hf_wbc.engine.domain_preprocessing import preprocessing_for
from hf_wbc.engine.domains import require_scale
from hf_wbc.evaluation.metrics import merged_labels
from hf_wbc.inference.evaluate import evaluate_model
from hf_wbc.inference.options import RuntimeName
from hf_wbc.inference.runtime import split_features
from hf_wbc.inference.select_runtime import choose_runtime
from hf_wbc.inference.stress import StressOptions, stress_model
from hf_wbc.models import load_trained
from hf_wbc.taxonomy import NAMES, UNLABELED

__all__ = [
    "MERGE",
    "BenchmarkOptions",
    "measure_model",
    "measure_representation",
    "scored_classes",
]

SPLIT = "test"
MERGE = ("neutrophil_banded=neutrophil_segmented",)
FEWEST_CELLS = 10
"""Fewest test cells of a class that is scored."""
MOST_CELLS = 400
"""Most cells of a laboratory whose features are measured, evenly spaced."""
OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BenchmarkOptions:
    """How a model is measured."""

    merge: tuple[str, ...] = MERGE
    """Classes to score as one, as FROM=INTO, where a dataset has no test cell of FROM."""
    stress_cells: int = 500
    """Cells of the first dataset to corrupt; 0 omits the stress test."""
    allow_unscaled: bool = False
    """Accept datasets of unknown scale, whose cells fill the frame."""
    all_splits_elsewhere: bool = False
    """Score all splits of the other datasets, for small ones that the model was not trained on."""
    runtime: RuntimeName = "auto"
    """What computes."""


def measure_model(
    model: str,
    refs: Sequence[str],
    out: Path,
    options: BenchmarkOptions | None = None,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> list[dict[str, Any]]:
    """Score a model on datasets, under corruptions, and by its features.

    Args:
        model: A folder or a Hub model of the eleven classes.
        refs: Prepared folders or Hub datasets; the first one is the benchmark's own.
        out: Folder of the evaluations and stress tests; finished ones are not repeated.
        options: How to measure.
        on_progress: Called with the stage, the number of cells done and the total.

    Returns:
        Records: an evaluation for each dataset, a stress test, and for several datasets one of the
        kind `representation` with the robustness index.

    Raises:
        ValueError: If the model or a dataset cannot be used, or two datasets are the same.
    """
    options = options or BenchmarkOptions()
    first = load_split(refs[0], SPLIT)
    elsewhere = SPLITS if options.all_splits_elsewhere else (SPLIT,)
    domains = [(first,), *(tuple(load_splits(ref, elsewhere)) for ref in refs[1:])]
    names = [each[0].name for each in domains]
    if len(set(names)) < len(names):
        raise ValueError(f"the datasets are {', '.join(names)}; name each laboratory once")
    require_scale([each for of in domains for each in of], options.allow_unscaled)
    records = []
    for ref, splits in zip(refs, domains, strict=True):
        labels = np.concatenate([domain.labels for domain in splits])
        merge, classes = scored_classes(labels, options.merge)
        show = partial(on_progress, f"predict {splits[0].name}")
        folder = evaluate_model(
            model, ref, out, [domain.split for domain in splits], merge, classes,
            options.allow_unscaled, report=show, runtime=options.runtime,
        )  # fmt: skip
        records.append(folder.read_record())
    if options.stress_cells:
        merge, classes = scored_classes(first.labels, options.merge)
        how = StressOptions(
            limit=options.stress_cells, merge=merge, classes=classes,
            allow_unscaled=options.allow_unscaled, runtime=options.runtime,
        )  # fmt: skip
        show = partial(on_progress, "stress")
        folder, _ = stress_model(model, refs[0], out / "stress", how, report=show)
        records.append(folder.read_record())
    if len(refs) > 1:
        every = [(ref, each) for ref, of in zip(refs, domains, strict=True) for each in of]
        records.append(measure_representation(model, every, options, on_progress))
    return records


def scored_classes(
    labels: NDArray[np.int64], merge: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Choose the merges that apply to a dataset, and the classes with enough cells.

    Args:
        labels: Class ids of the test cells (N,), -1 for unlabeled ones.
        merge: Pairs FROM=INTO; one applies where FROM has no cell and INTO has some.

    Returns:
        The merges that apply, and the classes to score; no classes stand for all that occur, which
        is also the answer if no class has FEWEST_CELLS.
    """
    present = {NAMES[each] for each in np.unique(labels) if each != UNLABELED}
    kept = tuple(
        pair
        for pair in merge
        if (ends := pair.partition("="))[0] not in present and ends[2] in present
    )
    counts = np.bincount(labels[labels != UNLABELED], minlength=len(NAMES))
    enough = tuple(NAMES[each] for each in np.flatnonzero(counts >= FEWEST_CELLS))
    return kept, enough if enough and len(enough) < len(present) else ()


def measure_representation(
    model: str,
    splits: Sequence[tuple[str, DomainSplit]],
    options: BenchmarkOptions,
    on_progress: OnProgress,
) -> dict[str, Any]:
    """Return how much of the features of cells is laboratory and how much is class.

    Takes at most MOST_CELLS of a laboratory, of classes that occur in several of them; merges apply
    to all datasets here, so that a class has one name everywhere.

    Args:
        model: A folder or a Hub model of the eleven classes.
        splits: Splits of the laboratories, each with the dataset that it is from.
        options: How to measure.
        on_progress: Called with the stage, the number of cells done and the total.

    Raises:
        ValueError: If the laboratories share no class.
    """
    pretrained = load_trained(model)
    pretrained.classifier.eval()
    choice = choose_runtime(
        pretrained.classifier, pretrained.preprocessing, options.runtime, key=pretrained.revision
    )
    into = merged_labels(options.merge)
    names = list(dict.fromkeys(domain.name for _, domain in splits))
    merged = [
        (domain, np.where(domain.labels == UNLABELED, UNLABELED, into[domain.labels]))
        for _, domain in splits
    ]
    shared = _shared_classes([(domain.name, true) for domain, true in merged])
    features, labels, places, groups = [], [], [], []
    for (ref, _), (domain, true) in zip(splits, merged, strict=True):
        num = sum(len(other) for _, other in splits if other.name == domain.name)
        rows = _spread(np.isin(true, shared), max(1, MOST_CELLS * len(domain) // num))
        if not len(rows):
            continue
        how, _ = preprocessing_for(pretrained, ref)
        show = partial(on_progress, f"features {domain.name} {domain.split}")
        features.append(split_features(pretrained, choice.runtime, how, domain, rows, show))
        labels.append(true[rows])
        places.append(np.full(len(rows), names.index(domain.name)))
        own = domain.image_ids if domain.groups is None else domain.groups
        groups += [f"{domain.name}/{own[row]}" for row in rows]
    if not features:
        raise ValueError(f"{', '.join(names)} share no class, so there is no robustness index")
    index = robustness_index(
        np.concatenate(features), np.concatenate(labels), np.concatenate(places), groups
    )
    return {
        "kind": "representation",
        "model": {"name": model, "revision": pretrained.revision},
        "datasets": names,
        "merge": list(options.merge),
        "num_cells": len(groups),
        "index": asdict(index),
    }


def _shared_classes(splits: Sequence[tuple[str, NDArray[np.int64]]]) -> list[int]:
    """Return the classes that occur in several laboratories, given the labels of their splits."""
    found: dict[int, set[str]] = {}
    for name, labels in splits:
        for label in np.unique(labels[labels != UNLABELED]).tolist():
            found.setdefault(label, set()).add(name)
    return [label for label, where in found.items() if len(where) > 1]


def _spread(chosen: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    """Return at most `most` of the chosen rows, evenly spaced."""
    rows = np.flatnonzero(chosen)
    if len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]
    return rows
