"""Score a trained classifier on a dataset."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_wbc.arithmetic import with_arithmetic
from hf_wbc.data.dataset import DomainSplit, load_splits, no_images
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.engine.accelerator import (
    machine_info,
    make_accelerator,
    package_versions,
    peak_memory_bytes,
)
from hf_wbc.engine.calibrate import fit_run_abstention
from hf_wbc.engine.domain_preprocessing import preprocessing_for
from hf_wbc.engine.domains import require_scale
from hf_wbc.engine.features import load_images
from hf_wbc.engine.forward import (
    Predictions,
    Report,
    predict,
    report_after,
    without_progress_bars,
)
from hf_wbc.engine.scores import prediction_rows, score_predictions, score_probabilities
from hf_wbc.evaluation.abstention import abstention_scores
from hf_wbc.evaluation.metrics import confusion_counts
from hf_wbc.inference.gallery import read_reference_set
from hf_wbc.inference.neighbor_vote import NeighborVote, make_vote
from hf_wbc.inference.select_runtime import RuntimeChoice, choose_other_than_torch
from hf_wbc.models import PretrainedModel, load_trained
from hf_wbc.records import RunFolder, atomic_replace
from hf_wbc.taxonomy import UNLABELED

if TYPE_CHECKING:
    from accelerate import Accelerator


def evaluate_model(
    model: str,
    ref: str,
    root: Path,
    splits: Sequence[str],
    merge: Sequence[str] = (),
    classes: Sequence[str] = (),
    allow_unscaled: bool = False,
    seed: int = 0,
    report: Report = without_progress_bars,
    runtime: str = "torch",
    test_time_flips: bool = False,
    neighbors: int | None = None,
) -> RunFolder:
    """Score a model on splits of a dataset, and write predictions and scores to a folder.

    An existing evaluation is returned as it is.

    Args:
        model: A folder or a Hub model of the eleven classes.
        ref: A prepared folder or a Hub dataset.
        root: Folder that contains the evaluation folders.
        splits: Splits to score together.
        merge: Classes to score as one, as FROM=INTO.
        classes: Classes to score; if empty, those present.
        allow_unscaled: Accept a dataset of unknown scale.
        seed: Seed of the bootstrap intervals.
        report: Called with the number of images done, and the total.
        runtime: One of `select_runtime.RUNTIMES`; others than torch are part of the folder's name.
        test_time_flips: Average predictions over mirrored images, whatever the model's rule is.
        neighbors: Number of nearest reference cells whose vote names a cell; None for the head.

    Raises:
        ValueError: If the model, the dataset, the runtime or the reference set cannot be used.
    """
    options = {"merge": list(merge), "classes": list(classes), "seed": seed}
    domains = _scorable_domains(ref, splits, merge, classes, allow_unscaled)
    loaded, accelerator = load_trained(model), make_accelerator()
    vote = _load_vote(model, loaded, neighbors, domains)
    choice = _choose_runtime(loaded, runtime, accelerator)
    preprocessing, images = preprocessing_for(loaded, ref, test_time_flips)
    voting = {"neighbors": vote.to_dict()} if vote else {}
    identity = _identity(loaded, domains, images, choice, {**options, **voting})
    folder = RunFolder.find(root, identity)
    if folder.finished:
        return folder
    found, elapsed_s = _predict_domains(
        loaded, domains, preprocessing, accelerator, choice, vote, report
    )
    record = {
        **{"kind": "evaluation", "run": folder.path.name, **_facts(model, loaded, domains)},
        **{"splits": list(splits), "images": images, **voting},
        **({"runtime": choice.to_dict()} if choice else {}),
        **_scores(loaded, domains, found, merge, classes, seed, is_head=vote is None),
        **_circumstances(elapsed_s, sum(map(len, domains)), accelerator),
    }
    if accelerator.is_main_process:
        requested = {"model": model, "data": ref, "splits": list(splits), **options, **voting}
        _write(folder, requested, identity, domains, found, record)
    return folder


def _identity(
    loaded: PretrainedModel,
    domains: Sequence[DomainSplit],
    images: Mapping[str, Any],
    choice: RuntimeChoice | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return everything that decides an evaluation, whose digest names its folder."""
    prints = {domain.split: domain.fingerprint for domain in domains}
    runtime_name = {"runtime": choice.runtime.name} if choice else {}
    identity = {"model": loaded.revision, "data": prints, "images": images, **options}
    return with_arithmetic({**identity, **runtime_name})


def _choose_runtime(
    loaded: PretrainedModel, name: str, accelerator: "Accelerator"
) -> RuntimeChoice | None:
    """Move the model to its device, and choose its runtime; None is eager torch."""
    loaded.classifier.to(accelerator.device).eval()
    return choose_other_than_torch(loaded, name)


def _load_vote(
    model: str, loaded: PretrainedModel, neighbors: int | None, domains: Sequence[DomainSplit]
) -> NeighborVote | None:
    """Return the vote of the model's reference cells; None if the head names the cells."""
    if neighbors is None:
        return None
    vote = make_vote(model, read_reference_set(model, loaded), neighbors)
    vote.require_other_cells(domains)
    return vote


def _write(
    folder: RunFolder,
    requested: Mapping[str, Any],
    identity: Mapping[str, Any],
    domains: Sequence[DomainSplit],
    predictions: Sequence[Predictions],
    record: Mapping[str, Any],
) -> None:
    """Write the predictions and the record; the record comes last and finishes the folder."""
    rows = [prediction_rows(*each) for each in zip(domains, predictions, strict=True)]
    with folder.writing(requested, identity):
        with atomic_replace(folder.predictions) as temporary:
            pq.write_table(pa.concat_tables(rows), temporary)
        folder.write_record(record)


def _scorable_domains(
    ref: str,
    splits: Sequence[str],
    merge: Sequence[str],
    classes: Sequence[str],
    allow_unscaled: bool,
) -> list[DomainSplit]:
    """Load the splits, and check before any prediction that they can be scored.

    Raises:
        ValueError: For repeated splits, missing labels, an unknown scale, or classes that cannot be
            merged.
    """
    if not splits or len(set(splits)) < len(splits):
        raise ValueError(f"splits are {', '.join(splits) or 'none'}; name each once with --splits")
    domains = load_splits(ref, splits)
    require_scale(domains, allow_unscaled)
    labels = np.concatenate([domain.labels for domain in domains])
    if not len(labels):
        raise ValueError(no_images(ref, splits))
    if (labels == UNLABELED).all():
        raise ValueError(f"{ref} has no labels, so nothing can be scored")
    confusion_counts(labels, labels, merge=merge, classes=classes)
    return domains


def _predict_domains(
    loaded: PretrainedModel,
    domains: Sequence[DomainSplit],
    preprocessing: ImagePreprocessing,
    accelerator: "Accelerator",
    choice: RuntimeChoice | None,
    vote: NeighborVote | None,
    report: Report,
) -> tuple[list[Predictions], float]:
    """Predict each split, and return the predictions and their wall time in seconds."""
    start, runtime = time.perf_counter(), choice.runtime if choice else None
    num_done, total = 0, sum(len(domain) for domain in domains)
    predictions = []
    for domain in domains:
        pixels = load_images(loaded, domain)
        show = report_after(report, num_done, total)
        found = predict(
            loaded.classifier, pixels, preprocessing, accelerator, report=show, runtime=runtime
        )
        predictions.append(replace(found, logits=vote.logits(found.features)) if vote else found)
        num_done += len(domain)
    return predictions, time.perf_counter() - start


def _scores(
    loaded: PretrainedModel,
    domains: Sequence[DomainSplit],
    predictions: Sequence[Predictions],
    merge: Sequence[str],
    classes: Sequence[str],
    seed: int,
    is_head: bool,
) -> dict[str, Any]:
    """Return the scores, and how the abstention of a model fares, which belongs to its head."""
    logits = np.concatenate([found.logits for found in predictions])
    labels = np.concatenate([domain.labels for domain in domains])
    abstention = fit_run_abstention(loaded) if is_head else None
    return {
        "scores": score_predictions(domains, logits.argmax(1), merge, classes, seed),
        "probability_scores": score_probabilities(domains, logits, merge, classes, seed),
        "calibration": abstention
        and abstention_scores(
            abstention, domains[0].name, logits, labels, merge=merge, classes=classes
        ),
    }


def _circumstances(elapsed_s: float, num_images: int, accelerator: "Accelerator") -> dict[str, Any]:
    """Return the cost of the predictions, the machine and the installed packages."""
    return {
        "cost": {
            "elapsed_s": elapsed_s,
            "images_per_s": num_images / elapsed_s,
            "peak_memory_bytes": peak_memory_bytes(),
        },
        "machine": machine_info(accelerator.device, accelerator.num_processes),
        "packages": package_versions(),
    }


def _facts(model: str, loaded: PretrainedModel, domains: Sequence[DomainSplit]) -> dict[str, Any]:
    """Return the model and the data of an evaluation."""
    first = domains[0]
    return {
        "model": {
            "name": model,
            "revision": loaded.revision,
            "exposure": loaded.exposure,
            "exposed_to": list(loaded.exposed_to),
        },
        "data": {
            "name": first.name,
            "ref": first.ref,
            "revision": first.revision,
            "um_per_px": first.um_per_px,
            **{domain.split: domain.fingerprint for domain in domains},
        },
    }
