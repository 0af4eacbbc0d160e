"""May a model be used in a laboratory? A verification plan and what the labeled cells say.

The plan follows the usual practice of verifying a cell classifier at a new site (Arch Pathol Lab
Med 2024;148:e335): state limits first, count enough cells of each class, report the results with
intervals, and keep a baseline with which later batches are compared. Only random cells count, see
`hf_wbc.labeling.estimate`. Whether the limits are the right ones is for the laboratory to decide.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_wbc.evaluation.metrics import merged_labels
from hf_wbc.labeling.drift import Baseline
from hf_wbc.labeling.estimate import LEVEL, LocalCalibration, ScoreEstimate
from hf_wbc.labeling.learner import Learner
from hf_wbc.labeling.pool import Floats, Ids
from hf_wbc.plots.html import render_page
from hf_wbc.records import atomic_replace, require_own_folder, write_json
from hf_wbc.taxonomy import NAMES, NUM_CLASSES

__all__ = [
    "Acceptance",
    "ClassResult",
    "Limits",
    "accept",
    "cells_needed",
    "check_report_folder",
    "wilson_interval",
    "write_acceptance",
]

RECORD = "acceptance.json"
TEMPLATE = "model_cards/acceptance.html"
Z = 1.959963984540054
"""Quantile of the normal distribution for 95 %."""


@dataclass(frozen=True)
class Limits:
    """What a laboratory demands; stated before the labels are looked at."""

    macro_f1: float = 0.8
    """Lowest macro-F1."""
    recall: float = 0.8
    """Lowest recall of each class."""
    half_width: float = 0.1
    """Half the width of the recall's interval that the plan aims at."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value < 1:
                raise ValueError(f"{name} is {value}; it must lie between 0 and 1")


@dataclass(frozen=True)
class ClassResult:
    """One class: what the plan wants, and what was found."""

    name: str
    num_random: int
    """Random cells with this label."""
    num_right: int
    """How many of them the model names."""
    recall: float | None
    """None without a random cell."""
    interval: tuple[float, float]
    needed: int
    """Cells of the class that the plan wants."""
    still_to_label: int | None
    """Further random cells to label until there are as many; None where the class is too rare to
    say."""
    verdict: str
    """met, not met or open."""


@dataclass(frozen=True)
class Acceptance:
    """The report of one laboratory."""

    laboratory: str
    model: str
    num_cells: int
    num_labels: int
    num_random: int
    limits: Limits
    estimate: ScoreEstimate | None
    classes: tuple[ClassResult, ...]
    calibration: LocalCalibration | None
    verdict: str
    reasons: tuple[str, ...]
    readers: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            **asdict(self),
            "calibration": self.calibration
            and {
                "temperature": self.calibration.temperature,
                "sets": self.calibration.sets.to_dict(),
                "num_cells": self.calibration.num_cells,
                "sentence": self.calibration.sentence,
            },
        }


def check_report_folder(out: Path) -> None:
    """Raise ValueError unless `out` is a previous report, empty or absent."""
    require_own_folder(out, RECORD, "hf-wbc accept")


def wilson_interval(hits: int, num: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927); (0, 1) for no cells.

    Examples:
        >>> [round(end, 3) for end in wilson_interval(9, 10)]
        [0.596, 0.982]
    """
    if not num:
        return 0.0, 1.0
    share, z = hits / num, Z**2 / num
    center = (share + z / 2) / (1 + z)
    half = Z / (1 + z) * math.sqrt(share * (1 - share) / num + z / (4 * num))
    return max(0.0, center - half), min(1.0, center + half)


def cells_needed(recall: float, half_width: float) -> int:
    """Return the cells of a class at which the interval of its recall is narrow enough.

    Args:
        recall: The recall that is expected.
        half_width: Half the width of the 95 % interval.

    Examples:
        >>> cells_needed(0.8, 0.1)
        60
    """
    num = 1
    while True:
        low, high = wilson_interval(round(recall * num), num)
        if (high - low) / 2 <= half_width:
            return num
        num += 1


def accept(learner: Learner, model: str, limits: Limits) -> Acceptance:
    """Judge the head of a learner by its random cells.

    The judged head is the one that `learner` has: fitted to its labels, if that helps. Each cell is
    judged by a head that was not fitted to it.

    Args:
        learner: The learner, with its labels.
        model: Name of the model, for the report.
        limits: What the laboratory demands.
    """
    sample, pool = learner.sample, learner.pool
    true = np.array([learner.labels[pool.image_ids[row]] for row in sample], np.int64)
    into = merged_labels(learner.merge)
    predicted, true = into[learner.held_out_logits().argmax(1)[sample]], into[true]
    seen = {int(into[c]) for c in learner.labels.values()}
    found = learner.estimate()
    estimate = found and found[0]
    shares = _shares(learner)
    classes = tuple(_class_result(c, true, predicted, shares[c], limits) for c in sorted(seen))
    verdict, reasons = _verdict(classes, estimate, limits)
    return Acceptance(
        laboratory=pool.name,
        model=model,
        num_cells=len(pool),
        num_labels=len(learner.labels),
        num_random=len(sample),
        limits=limits,
        estimate=estimate,
        classes=classes,
        calibration=learner.calibration(),
        verdict=verdict,
        reasons=reasons,
        readers=tuple(sorted({each.reader for each in learner.answers if each.reader})),
    )


def write_acceptance(
    folder: Path, acceptance: Acceptance, baseline: Baseline | None, facts: Mapping[str, Any]
) -> None:
    """Write acceptance.json, acceptance.html and the drift baseline, replacing the folder.

    Without a baseline, of too few cells, the page says that later cells cannot be compared.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    record = {**acceptance.to_dict(), **facts}
    with atomic_replace(folder) as temporary:
        temporary.mkdir()
        write_json(temporary / RECORD, record)
        page = render_page(
            TEMPLATE, {}, {"report": acceptance, "facts": facts, "baseline": baseline}
        )
        (temporary / "acceptance.html").write_text(page, encoding="utf-8")
        if baseline is not None:
            baseline.save(temporary / "baseline.npz")


def _shares(learner: Learner) -> Floats:
    """Return the estimated share of each class (11,), from the predictions of all cells."""
    predicted = merged_labels(learner.merge)[learner.held_out_logits().argmax(1)]
    shares: Floats = np.bincount(predicted, minlength=NUM_CLASSES) / len(predicted)
    return shares


def _class_result(c: int, true: Ids, predicted: Ids, share: float, limits: Limits) -> ClassResult:
    mine = true == c
    num, hits = int(mine.sum()), int((predicted[mine] == c).sum())
    low, high = wilson_interval(hits, num)
    needed = cells_needed(max(limits.recall, 0.5), limits.half_width)
    missing = max(0, needed - num)
    more = math.ceil(missing / share) if share > 0 else (0 if not missing else None)
    verdict = "met" if low >= limits.recall else "not met" if high < limits.recall else "open"
    return ClassResult(
        NAMES[c], num, hits, hits / num if num else None, (low, high), needed, more, verdict
    )


def _verdict(
    classes: tuple[ClassResult, ...], estimate: ScoreEstimate | None, limits: Limits
) -> tuple[str, tuple[str, ...]]:
    """Return "accepted", "refused" or "open", and why."""
    if estimate is None:
        return "open", ("Fewer than 10 random cells have a label; label more.",)
    low, high = estimate.interval
    reasons = []
    if high < limits.macro_f1:
        reasons.append(f"Macro-F1 is below {limits.macro_f1:.2f}: at most {high:.2f}.")
    reasons += [
        f"Recall of {each.name} is below {limits.recall:.2f}: at most {each.interval[1]:.2f}."
        for each in classes
        if each.verdict == "not met"
    ]
    if reasons:
        return "refused", tuple(reasons)
    if low < limits.macro_f1:
        reasons.append(
            f"Macro-F1 may be below {limits.macro_f1:.2f}: its {LEVEL:.0%} interval is "
            f"[{low:.2f}, {high:.2f}]."
        )
    for each in classes:
        if each.verdict == "open":
            more = f" (about {each.still_to_label} cells)" if each.still_to_label else ""
            reasons.append(f"Recall of {each.name} is not known well enough; label more{more}.")
    if reasons:
        return "open", tuple(reasons)
    return "accepted", ("All limits are met with 95 % confidence.",)
