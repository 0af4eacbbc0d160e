"""How much of the features of runs is laboratory, and how much is class.

Measured on the test images of all domains of a run (see `hf_wbc.audit.representation`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from hf_wbc.audit.representation import RepresentationScores, representation_scores
from hf_wbc.comparison.collect import Problem, Run
from hf_wbc.comparison.result_table import ResultRow

_KEYS = ["domain", "split", "image_id"]


@dataclass(frozen=True, eq=False)
class RunFeatures:
    """Features of N test images of a run, with labels and domains."""

    features: NDArray[np.float32]
    """Penultimate features (N, d)."""
    labels: NDArray[np.int64]
    """Class ids (N,); -1 is unlabeled."""
    domains: NDArray[np.int64]
    """Indices into `names` (N,)."""
    groups: list[str]
    """Patient or slide of each image, with its domain; the image itself where it is unknown."""
    names: tuple[str, ...]
    """Sources, targets and held-out domains."""


@dataclass(frozen=True)
class LaboratoryShare:
    """Means over the runs of one method on one network and direction."""

    direction: str
    backbone: str
    name: str
    """The method with its options."""
    num_runs: int
    robustness_index: float
    support: float
    performance_drop: float | None
    laboratory_accuracy: float | None
    laboratory_chance: float | None


def read_run_features(run: Run) -> RunFeatures:
    """Read the features of the test images of a run.

    Raises:
        ValueError: If the features or predictions are missing, damaged, or of different images.
    """
    features, predictions = run.features(), run.predictions()
    if any(features[key] != predictions[key] for key in _KEYS):
        raise ValueError(
            f"{run.name}: features.parquet and predictions.parquet contain "
            "different images; repeat the run"
        )
    is_test = pc.equal(features["split"], "test")
    features, predictions = features.filter(is_test), predictions.filter(is_test)
    names = (*run.sources, *run.targets, *(d["name"] for d in run.record["held_out"]))
    domains = features["domain"].to_pylist()
    column = features["features"].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    known = "group" in predictions.column_names
    groups = predictions["group"].to_pylist() if known else [None] * len(domains)
    ids = features["image_id"].to_pylist()
    return RunFeatures(
        features=values.astype(np.float32),
        labels=predictions["label"].to_numpy().astype(np.int64),
        domains=np.array([names.index(name) for name in domains], np.int64),
        groups=[
            f"{domain}/{group or name}"
            for domain, group, name in zip(domains, groups, ids, strict=True)
        ],
        names=names,
    )


def laboratory_shares(
    rows: Sequence[ResultRow], seed: int = 0
) -> tuple[tuple[LaboratoryShare, ...], list[Problem]]:
    """Measure the features of the runs of headline rows, and average over their seeds.

    Returns:
        The averages in the order of the rows, and a problem for each run whose features cannot be
        read. Runs without labeled images of two laboratories are left out.
    """
    problems: list[Problem] = []
    found: dict[str, RepresentationScores | None] = {}
    members: dict[tuple[str, str, str], dict[str, Run]] = {}
    for row in rows:
        if row.setting.is_headline:
            key = (row.setting.direction, row.backbone, row.name)
            members.setdefault(key, {}).update({run.name: run for run in row.runs})
    shares = []
    for key, runs in members.items():
        for run in runs.values():
            if run.name not in found:
                found[run.name] = _measure(run, seed, problems)
        scores = [each for name in runs if (each := found[name]) is not None]
        if scores:
            shares.append(_average(*key, scores))
    return tuple(shares), problems


def _measure(run: Run, seed: int, problems: list[Problem]) -> RepresentationScores | None:
    try:
        cells = read_run_features(run)
    except ValueError as error:
        problems.append(Problem(run.path, f"its features are not measured: {error}", run.name))
        return None
    return representation_scores(cells.features, cells.labels, cells.domains, cells.groups, seed)


def _average(
    direction: str, backbone: str, name: str, scores: Sequence[RepresentationScores]
) -> LaboratoryShare:
    def mean(attribute: str) -> float | None:
        values = [getattr(each, attribute) for each in scores]
        known = [value for value in values if value is not None]
        return fmean(known) if known else None

    return LaboratoryShare(
        direction=direction,
        backbone=backbone,
        name=name,
        num_runs=len(scores),
        robustness_index=fmean(each.index.value for each in scores),
        support=fmean(each.index.support for each in scores),
        performance_drop=mean("performance_drop"),
        laboratory_accuracy=mean("laboratory_accuracy"),
        laboratory_chance=mean("laboratory_chance"),
    )
