"""Score a trained classifier on a dataset."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_wbc.data.dataset import DomainSplit, load_splits
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
from hf_wbc.engine.forward import Report, predict, without_progress_bars
from hf_wbc.engine.scores import prediction_rows, score_predictions
from hf_wbc.evaluation.abstention import abstention_scores
from hf_wbc.evaluation.metrics import confusion_counts
from hf_wbc.models import PretrainedModel, load_trained
from hf_wbc.records import RunFolder, atomic_replace
from hf_wbc.taxonomy import UNLABELED


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
) -> RunFolder:
    """Score a model on splits of a dataset, and write predictions and scores to a folder.

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

    Returns:
        The finished folder; an existing evaluation is returned as it is.

    Raises:
        ValueError: If the model has other classes, the dataset has no labels, or its scale is
            unknown.
    """
    if not splits or len(set(splits)) < len(splits):
        raise ValueError(f"splits are {', '.join(splits) or 'none'}; name each once with --splits")
    loaded = load_trained(model)
    domains = load_splits(ref, splits)
    require_scale(domains, allow_unscaled)
    labels = np.concatenate([domain.labels for domain in domains])
    if (labels == UNLABELED).all():
        raise ValueError(f"{ref} has no labels, so nothing can be scored")
    confusion_counts(labels, labels, merge=merge, classes=classes)  # fail early if not scorable
    treatment, images = preprocessing_for(loaded, ref)
    asked = {"model": model, "data": ref, "splits": list(splits)}
    options = {"merge": list(merge), "classes": list(classes), "seed": seed}
    identity = {
        "model": loaded.revision,
        "data": {domain.split: domain.fingerprint for domain in domains},
        "images": images,
        **options,
    }
    folder = RunFolder.find(root, identity)
    if folder.finished:
        return folder
    accelerator = make_accelerator()
    loaded.classifier.to(accelerator.device)
    start, num_before = time.perf_counter(), 0
    tables, predicted = [], []
    for domain in domains:
        pixels = load_images(loaded, domain)
        show = partial(_report_after, report, num_before, len(labels))
        found = predict(loaded.classifier, pixels, treatment, accelerator, report=show)
        num_before += len(domain)
        tables.append(prediction_rows(domain, found))
        predicted.append(found)
    elapsed_s = time.perf_counter() - start
    logits = np.concatenate([found.logits for found in predicted])
    scores = score_predictions(domains, logits.argmax(1), merge, classes, seed)
    abstention = fit_run_abstention(loaded)
    if accelerator.is_main_process:
        with folder.writing(asked | options, identity):
            with atomic_replace(folder.predictions) as temporary:
                pq.write_table(pa.concat_tables(tables), temporary)
            folder.write_record(
                {
                    "kind": "evaluation",
                    "run": folder.path.name,
                    **_facts(model, loaded, domains),
                    "splits": list(splits),
                    "images": images,
                    "scores": scores,
                    "calibration": abstention
                    and abstention_scores(
                        abstention, domains[0].name, logits, labels, merge=merge, classes=classes
                    ),
                    "cost": {
                        "elapsed_s": elapsed_s,
                        "images_per_s": len(labels) / elapsed_s,
                        "peak_memory_bytes": peak_memory_bytes(),
                    },
                    "machine": machine_info(accelerator.device, accelerator.num_processes),
                    "packages": package_versions(),
                }
            )
    return folder


def _report_after(report: Report, num_before: int, total: int, done: int, _: int) -> None:
    report(num_before + done, total)


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
