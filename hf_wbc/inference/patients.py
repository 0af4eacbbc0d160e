"""Predict a label of patients from the embedded cells of each, cross-validated over patients.

Two heads: logistic regression on the mean of a patient's cells, and gated attention over them. All
cells of a patient are in one fold. Intervals are bootstraps over patients.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_wbc.models.gated_attention import GatedAttention
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import csv_rows, shorten_list

__all__ = ["HEADS", "PatientBags", "cross_validate", "join_bags", "read_patient_labels"]

Floats = NDArray[np.floating[Any]]
Ids = NDArray[np.int64]

COLUMNS = ("group", "label")
FEWEST_PER_LABEL = 2
MAX_FOLDS = 5
NUM_STEPS = 300
NUM_RESAMPLES = 1000
_CELLS_AT_ONCE = 256
"""Most cells of a bag in a training step, drawn at random."""


def read_patient_labels(path: Path) -> dict[str, str]:
    """Read a table of patients with the columns group and label.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no such table, a value is empty, or a patient has two labels; the
            message names the line.
    """
    found: dict[str, str] = {}
    for number, row in csv_rows(path.read_bytes(), str(path), COLUMNS):
        group, label = (row[name] for name in COLUMNS)
        if not group or not label:
            raise ValueError(f"{path}, line {number}: group or label is empty")
        if found.setdefault(group, label) != label:
            raise ValueError(
                f"{path}, line {number}: patient {group} is {label!r} here and "
                f"{found[group]!r} above; a patient has one label"
            )
    if not found:
        raise ValueError(f"{path} names no patient")
    return found


@dataclass(frozen=True, eq=False)
class PatientBags:
    """The cells of P patients."""

    patients: tuple[str, ...]
    labels: Ids
    """Index into `names` of each patient (P,)."""
    names: tuple[str, ...]
    """Labels, sorted."""
    rows: tuple[Ids, ...]
    """Rows of each patient's cells in `features`."""
    features: Floats
    """Features of all cells (N, d)."""
    unlabeled: tuple[str, ...]
    """Groups with cells that the table does not name; they are left out."""

    def table(self, cell_labels: Ids) -> list[dict[str, Any]]:
        """Return a row for each patient: label, number of cells, and the share of each class.

        Args:
            cell_labels: Class ids of all cells (N,), -1 where unknown; a patient without known
                classes has empty shares.
        """
        found = []
        for patient, label, rows in zip(self.patients, self.labels, self.rows, strict=True):
            known = cell_labels[rows][cell_labels[rows] >= 0]
            shares = np.bincount(known, minlength=len(NAMES)) / max(1, len(known))
            row = {"group": patient, "label": self.names[label], "num_cells": len(rows)}
            values = shares.round(4).tolist() if len(known) else [""] * len(NAMES)
            found.append(row | dict(zip(NAMES, values, strict=True)))
        return found


def join_bags(
    features: Floats, groups: Sequence[str | None], labels: Mapping[str, str], ref: str
) -> PatientBags:
    """Collect the cells of each labeled patient.

    Args:
        features: Features of all cells (N, d).
        groups: Group of each cell (N,).
        labels: Label of each patient, from `read_patient_labels`.
        ref: The dataset, for messages.

    Raises:
        ValueError: If a patient has no cells, there are fewer than two labels, or a label has
            fewer than two patients.
    """
    by_group: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        if group is not None:
            by_group.setdefault(str(group), []).append(row)
    if not by_group:
        raise ValueError(f"{ref} has no groups, so its patients are unknown")
    if lost := [patient for patient in labels if patient not in by_group]:
        raise ValueError(
            f"{len(lost)} of {len(labels)} patients have no cells in {ref}: {shorten_list(lost)}; "
            f"its groups are named like {shorten_list(sorted(by_group), 3)}"
        )
    patients = tuple(sorted(labels))
    names = tuple(sorted(set(labels.values())))
    codes = np.array([names.index(labels[each]) for each in patients], np.int64)
    counts = np.bincount(codes)
    if len(names) < 2:
        raise ValueError(f"all patients have the label {names[0]!r}; at least two are needed")
    if counts.min() < FEWEST_PER_LABEL:
        rarest = names[int(counts.argmin())]
        raise ValueError(
            f"label {rarest!r} has {counts.min()} patient; cross-validation needs at least "
            f"{FEWEST_PER_LABEL}"
        )
    return PatientBags(
        patients=patients,
        labels=codes,
        names=names,
        rows=tuple(np.array(by_group[each]) for each in patients),
        features=features,
        unlabeled=tuple(sorted(set(by_group) - set(labels))),
    )


Head = Callable[[PatientBags, Ids, Ids, int], Floats]
"""Maps bags, rows of training patients, rows of test patients and a seed to probabilities."""


def mean_pooling(bags: PatientBags, train: Ids, test: Ids, seed: int) -> Floats:
    """Return probabilities (T, K) by logistic regression on the mean features of each patient."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    means = np.stack([bags.features[rows].mean(0) for rows in bags.rows]).astype(np.float64)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    model.fit(means[train], bags.labels[train])
    found: Floats = model.predict_proba(means[test])
    return found


def gated_attention(bags: PatientBags, train: Ids, test: Ids, seed: int) -> Floats:
    """Return probabilities (T, K) by gated attention; see `hf_wbc.models.gated_attention`."""
    generator = np.random.default_rng(seed)
    cells = np.concatenate([bags.rows[patient] for patient in train])
    mean, std = bags.features[cells].mean(0), bags.features[cells].std(0) + 1e-6
    scaled = torch.from_numpy(((bags.features - mean) / std).astype(np.float32))
    counts = np.bincount(bags.labels[train], minlength=len(bags.names))
    weight = torch.tensor(len(train) / (len(counts) * counts.clip(min=1)), dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GatedAttention(scaled.shape[1], len(bags.names))
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
        order = generator.permutation(train)
        for step in range(NUM_STEPS):
            patient = int(order[step % len(order)])
            rows = bags.rows[patient]
            chosen = generator.permutation(rows)[:_CELLS_AT_ONCE]
            logits, _ = network(scaled[torch.from_numpy(chosen)])
            target = torch.tensor([bags.labels[patient]])
            loss = torch.nn.functional.cross_entropy(logits[None], target) * weight[target[0]]
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    network.eval()
    with torch.inference_mode():
        found = [network(scaled[torch.from_numpy(bags.rows[each])])[0].softmax(0) for each in test]
    probabilities: Floats = torch.stack(found).double().numpy()
    return probabilities


HEADS: dict[str, Head] = {"mean": mean_pooling, "attention": gated_attention}
"""Heads by name."""


def cross_validate(bags: PatientBags, head: str, seed: int = 0) -> dict[str, Any]:
    """Predict every patient by a head that was trained on other patients, and score it.

    Args:
        bags: The patients.
        head: One of HEADS.
        seed: Seed of the folds, the training and the bootstrap.

    Returns:
        JSON values: `scores` and `intervals` (accuracy, balanced_accuracy, auroc), the number of
        folds, and the probabilities of each patient.
    """
    from sklearn.model_selection import StratifiedKFold

    num_folds = int(min(MAX_FOLDS, np.bincount(bags.labels).min()))
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    probabilities = np.zeros((len(bags.patients), len(bags.names)))
    for train, test in folds.split(probabilities, bags.labels):
        probabilities[test] = HEADS[head](bags, train, test, seed)
    scores = _scores(bags.labels, probabilities)
    return {
        "head": head,
        "num_folds": num_folds,
        "scores": scores,
        "intervals": _intervals(bags.labels, probabilities, seed),
        "patients": {
            patient: dict(zip(bags.names, row, strict=True))
            for patient, row in zip(bags.patients, probabilities.tolist(), strict=True)
        },
    }


def _scores(labels: Ids, probabilities: Floats) -> dict[str, float]:
    """Return the scores of patients; AUROC is the mean over the labels, one-vs-rest."""
    right, present = probabilities.argmax(1) == labels, np.unique(labels)
    areas = [_area(probabilities[:, each], labels == each) for each in present]
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean([right[labels == each].mean() for each in present])),
        "auroc": float(np.mean(areas)) if len(present) > 1 else float("nan"),
    }


def _area(values: Floats, is_positive: NDArray[np.bool_]) -> float:
    """Return the share of pairs of a positive and a negative that are in order; ties count half."""
    gaps = values[is_positive][:, None] - values[~is_positive]
    return float(((gaps > 0) + 0.5 * (gaps == 0)).mean()) if gaps.size else float("nan")


def _intervals(labels: Ids, probabilities: Floats, seed: int) -> dict[str, list[float]]:
    """Return 95 % bootstrap intervals [low, high] over patients."""
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(NUM_RESAMPLES):
        rows = generator.integers(0, len(labels), len(labels))
        drawn.append(_scores(labels[rows], probabilities[rows]))
    return {
        name: np.nanquantile([each[name] for each in drawn], (0.025, 0.975)).tolist()
        for name in drawn[0]
    }
