"""Score a trained classifier on corrupted cells, in blocks from which an interrupted test resumes.

Each block of cells is decoded once, corrupted in every way, and predicted; its logits are a file of
the folder until the record is written. Any runtime computes (see `select_runtime`).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_wbc.arithmetic import with_arithmetic
from hf_wbc.data.corruptions import (
    GRID_PX,
    SEVERITIES,
    Cells,
    Corruption,
    corrupt,
    draw_for_images,
    find_corruptions,
    neighbor_rows,
)
from hf_wbc.data.crop import Geometry, resize_squares
from hf_wbc.data.dataset import DomainSplit, load_split, no_images
from hf_wbc.data.pixel_cache import stream_pixels
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.engine.accelerator import machine_info, package_versions
from hf_wbc.engine.domain_preprocessing import preprocessing_for
from hf_wbc.engine.domains import require_scale
from hf_wbc.engine.features import crop_geometry
from hf_wbc.engine.forward import Report, without_progress_bars
from hf_wbc.evaluation.metrics import confusion_counts
from hf_wbc.evaluation.stress_scores import condition_scores, corruption_errors, summarize_stress
from hf_wbc.inference.options import RuntimeName, Split
from hf_wbc.inference.runtime import apply_head, run_runtime
from hf_wbc.inference.select_runtime import RuntimeChoice, choose_runtime
from hf_wbc.models import PretrainedModel, load_trained
from hf_wbc.records import RunFolder, atomic_replace, digest, read_json, remove
from hf_wbc.taxonomy import UNLABELED

__all__ = ["StressOptions", "StressTest", "open_stress_test", "stress_model"]

VERSION = 1
"""Version of the corruptions and of the record; raise it when the same cells change."""
BLOCK = 64
"""Cells of a block, which is lost by an interruption."""
ROWS_AT_ONCE = 16
"""Cells that are corrupted at a time."""


@dataclass(frozen=True)
class StressOptions:
    """What a stress test covers."""

    split: Split = "test"
    """Split whose labeled cells are corrupted."""
    limit: int = 2000
    """Most cells to use, evenly spaced within each class."""
    corruptions: tuple[str, ...] = ()
    """Names of the corruptions; all of them if empty."""
    merge: tuple[str, ...] = ()
    """Classes to score as one, as FROM=INTO."""
    classes: tuple[str, ...] = ()
    """Classes to score; if omitted, those with labels in the data."""
    seed: int = 0
    """Seed of the corruptions' random part and of the intervals."""
    allow_unscaled: bool = False
    """Accept a dataset of unknown scale, whose frames are then taken as 25 um wide."""
    runtime: RuntimeName = "auto"
    """What computes; auto is the fastest installed one that agrees with torch to 0.001."""


@dataclass(frozen=True, eq=False)
class StressTest:
    """A model, the N cells, and the corruptions."""

    pretrained: PretrainedModel
    choice: RuntimeChoice
    preprocessing: ImagePreprocessing
    domain: DomainSplit
    rows: NDArray[np.int64]
    """Rows of the cells in the split (N,), ascending."""
    corruptions: tuple[Corruption, ...]
    seed: int

    @property
    def image_ids(self) -> list[str]:
        """Image id of each cell."""
        return [self.domain.image_ids[row] for row in self.rows]

    @property
    def labels(self) -> NDArray[np.int64]:
        """Class ids (N,)."""
        labels: NDArray[np.int64] = self.domain.labels[self.rows]
        return labels

    def decode(self, rows: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
        """Yield blocks of rows of the split on the camera grid, (B, GRID_PX, GRID_PX, 3)."""
        geometry = Geometry(GRID_PX, self.pretrained.preprocessing.resample)
        yield from stream_pixels(self.domain, geometry, rows, BLOCK)

    def cells(
        self, corruption: Corruption, pixels: NDArray[np.uint8], image_ids: Sequence[str]
    ) -> Cells:
        """Return the cells of a block as a corruption needs them.

        Args:
            corruption: The corruption.
            pixels: Cells of a block on the camera grid (B, GRID_PX, GRID_PX, 3); each lends itself
                to another one as its neighbor.
            image_ids: Their ids.
        """
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        neighbors = torch.from_numpy(neighbor_rows(image_ids, self.seed))
        return Cells(images, draw_for_images(self.seed, corruption, image_ids), images[neighbors])

    def conditions(
        self, pixels: NDArray[np.uint8], image_ids: Sequence[str]
    ) -> Iterator[NDArray[np.uint8]]:
        """Yield the cells of a block unchanged, then under each corruption at each severity.

        Args:
            pixels: Cells on the camera grid (B, GRID_PX, GRID_PX, 3).
            image_ids: Their ids.

        Yields:
            Pixels (B, GRID_PX, GRID_PX, 3), uint8; 1 + 4 for each corruption.
        """
        yield pixels
        for corruption in self.corruptions:
            cells = self.cells(corruption, pixels, image_ids)
            parts = [cells[i : i + ROWS_AT_ONCE] for i in range(0, len(pixels), ROWS_AT_ONCE)]
            for severity in range(1, SEVERITIES + 1):
                yield np.concatenate([corrupt(corruption, part, severity) for part in parts])

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits (B, 11) of cells on the camera grid."""
        classifier, runtime = self.pretrained.classifier, self.choice.runtime
        crops = resize_squares(pixels, crop_geometry(self.pretrained))
        device = classifier.head.weight.device
        return apply_head(classifier, run_runtime(runtime, crops, self.preprocessing, device))


def open_stress_test(model: str, ref: str, options: StressOptions) -> StressTest:
    """Load the model and the cells of a stress test.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        ref: A prepared folder or a Hub dataset.
        options: What the test covers.

    Raises:
        ValueError: If the model, the dataset, the runtime or an option cannot be used.
    """
    if options.limit < 1:
        raise ValueError(f"limit is {options.limit}; it must be at least 1")
    corruptions = find_corruptions(options.corruptions)
    domain = load_split(ref, options.split)
    require_scale([domain], options.allow_unscaled)
    if not len(domain):
        raise ValueError(no_images(ref, [options.split], "--split"))
    if (domain.labels == UNLABELED).all():
        raise ValueError(f"{ref} has no labels in {options.split}, so nothing can be scored")
    rows = _choose_cells(domain.labels, options.limit)
    labels = domain.labels[rows]
    confusion_counts(labels, labels, merge=options.merge, classes=options.classes)
    pretrained = load_trained(model)
    pretrained.classifier.eval()
    choice = choose_runtime(
        pretrained.classifier,
        pretrained.preprocessing,
        options.runtime,
        key=pretrained.revision,
    )
    preprocessing, _ = preprocessing_for(pretrained, ref)
    return StressTest(pretrained, choice, preprocessing, domain, rows, corruptions, options.seed)


def stress_model(
    model: str,
    ref: str,
    root: Path,
    options: StressOptions | None = None,
    baseline: Path | None = None,
    report: Report = without_progress_bars,
) -> tuple[RunFolder, StressTest]:
    """Score a model on corrupted cells, and write the record to a folder.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        ref: A prepared folder or a Hub dataset.
        root: Folder that contains the folders of stress tests.
        options: What the test covers.
        baseline: Folder of the baseline's stress test, for the mean corruption error.
        report: Called with the number of cells done and the total.

    Returns:
        The finished folder, and the test. A finished test is returned as it is.

    Raises:
        ValueError: If anything cannot be used, or the baseline covers other cells or corruptions.
    """
    options = options or StressOptions()
    test = open_stress_test(model, ref, options)
    facts = _facts(test, options)
    compared_with = None if baseline is None else _read_baseline(baseline, facts)
    identity = {
        "model": test.pretrained.revision,
        "runtime": test.choice.runtime.name,
        "preprocessing": test.preprocessing.to_dict(),
        **facts,
        **({} if compared_with is None else {"baseline": digest(compared_with)}),
    }
    folder = RunFolder.find(root, identity := with_arithmetic(identity))
    if folder.finished:
        return folder, test
    requested = {"model": model, "data": ref, "baseline": baseline and str(baseline)}
    with folder.writing({**requested, **facts}, identity):
        start = time.perf_counter()
        logits = _predict_blocks(test, folder.path / "blocks", report)
        elapsed_s = time.perf_counter() - start
        record = {**_record(test, model, facts, logits, options), "elapsed_s": elapsed_s}
        if compared_with is not None:
            errors = corruption_errors(record, compared_with)
            record["baseline"] = {
                "model": compared_with["model"]["name"],
                "clean": compared_with["clean"]["macro_f1"],
                "curves": {
                    name: [scores["macro_f1"] for scores in curve]
                    for name, curve in compared_with["curves"].items()
                },
                **errors,
            }
        folder.write_record(record)
        remove(folder.path / "blocks")
    return folder, test


def _choose_cells(labels: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Return at most `limit` labeled rows, evenly spaced within each class, ascending."""
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] != UNLABELED]
    if len(order) > limit:
        order = order[np.linspace(0, len(order) - 1, limit).round().astype(int)]
    rows: NDArray[np.int64] = np.sort(order)
    return rows


def _facts(test: StressTest, options: StressOptions) -> dict[str, Any]:
    """Return what decides which pixels are predicted and how they are scored."""
    return {
        "stress_version": VERSION,
        "data": {
            "name": test.domain.name,
            "split": test.domain.split,
            "fingerprint": test.domain.fingerprint,
            "num_cells": len(test.rows),
        },
        "corruptions": {
            each.name: {"unit": each.unit, "levels": list(each.levels)} for each in test.corruptions
        },
        "seed": test.seed,
        "merge": list(options.merge),
        "classes": list(options.classes),
    }


def _read_baseline(folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Read the record of a baseline.

    Raises:
        ValueError: If it is damaged, or not a stress test of the same cells and corruptions.
    """
    record = read_json(folder / "record.json", "give the folder of a finished stress test")
    if record.get("kind") != "stress" or not isinstance(record.get("curves"), dict):
        raise ValueError(f"{folder} is not a stress test; give a folder of `hf-wbc stress`")
    for name, value in facts.items():
        if record.get(name) != value:
            raise ValueError(
                f"the baseline {folder} has {name} {record.get(name)}, this test has {value}; "
                "repeat the baseline with the same data and options"
            )
    try:
        str(record["model"]["name"])
        curves = [record["curves"][name] for name in facts["corruptions"]]
        scores = [each["macro_f1"] for curve in curves for each in curve]
        is_whole = all(len(curve) == SEVERITIES for curve in curves)
        if not is_whole or not all(
            0 <= each <= 1 for each in (record["clean"]["macro_f1"], *scores)
        ):
            raise ValueError("scores are missing or beyond 0 to 1")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the record of {folder} is damaged ({error}); repeat the test") from error
    return record


def _predict_blocks(test: StressTest, folder: Path, report: Report) -> NDArray[np.float32]:
    """Return the logits of all conditions (C, N, 11); blocks that are there are not repeated."""
    folder.mkdir(exist_ok=True)
    num = len(test.rows)
    starts = list(range(0, num, BLOCK))
    paths = {start: folder / f"{start:07}.npy" for start in starts}
    todo = [start for start in starts if not _is_whole(paths[start])]
    rows = [test.rows[start : start + BLOCK] for start in todo]
    done = num - sum(map(len, rows))
    report(done, num)
    decoded = test.decode(np.concatenate(rows)) if rows else iter(())
    for start in todo:
        pixels = next(decoded)
        ids = [test.domain.image_ids[row] for row in test.rows[start : start + BLOCK]]
        assert len(pixels) == len(ids)
        logits = np.stack([test.logits(each) for each in test.conditions(pixels, ids)])
        with atomic_replace(paths[start]) as temporary, temporary.open("wb") as file:
            np.save(file, logits, allow_pickle=False)
        done += len(ids)
        report(done, num)
    return np.concatenate([np.load(paths[start], allow_pickle=False) for start in starts], 1)


def _is_whole(path: Path) -> bool:
    """Return whether a block was written completely."""
    try:
        np.load(path, mmap_mode="r", allow_pickle=False)
    except (EOFError, FileNotFoundError, ValueError):
        return False
    return True


def _record(
    test: StressTest,
    model: str,
    facts: Mapping[str, Any],
    logits: NDArray[np.float32],
    options: StressOptions,
) -> dict[str, Any]:
    """Return the record of a test from the logits of all conditions (C, N, 11)."""
    groups = None if test.domain.groups is None else test.domain.groups[test.rows]
    if groups is not None and len(np.unique(groups)) < 2:
        groups = None
    scores = [
        condition_scores(
            each, test.labels, merge=options.merge, classes=options.classes,
            groups=groups, seed=options.seed,
        )
        for each in logits
    ]  # fmt: skip
    curves = {
        each.name: scores[1 + SEVERITIES * i : 1 + SEVERITIES * (i + 1)]
        for i, each in enumerate(test.corruptions)
    }
    return {
        "kind": "stress",
        "model": {"name": model, "revision": test.pretrained.revision},
        **facts,
        "runtime": test.choice.to_dict(),
        "clean": scores[0],
        "curves": curves,
        "summary": summarize_stress(scores[0], curves),
        "machine": machine_info(test.pretrained.classifier.head.weight.device, 1),
        "packages": package_versions(),
    }
