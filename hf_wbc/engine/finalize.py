"""Finalize a run: predict, calibrate, correct label shift, score, export and write the record.

Each step is a function that returns a value. The trained classifier itself does not change.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hf_wbc.engine.accelerator import machine_info, package_versions, peak_memory_bytes
from hf_wbc.engine.calibrate import (
    AbstentionReport,
    SplitPredictions,
    calibrate,
    correct_label_shift,
    report_abstention,
)
from hf_wbc.engine.checkpoint import Progress, load_best
from hf_wbc.engine.context import RunContext
from hf_wbc.engine.domain_preprocessing import describe
from hf_wbc.engine.forward import Predictions
from hf_wbc.engine.scores import feature_rows, prediction_rows, score_predictions
from hf_wbc.engine.validation import usable_rule
from hf_wbc.evaluation.model_selection import SelectionRule, selection_rule
from hf_wbc.models import Bottleneck, Classifier, Exposure, export_classifier, save_classifier
from hf_wbc.records import atomic_replace, remove

__all__ = ["finalize"]

PER_PROCESS = (
    "losses use the samples of all processes; BatchNorm statistics are those of each process, and "
    "the first process's are saved"
)


def finalize(
    context: RunContext, progress: Progress, selection: SelectionRule, num_trained: int
) -> None:
    """Turn the best weights into a finished run folder.

    Labels of target test images are first read here, for scoring.

    Args:
        context: The run.
        progress: Progress at the end of training.
        selection: The rule that selected the weights.
        num_trained: Number of trained weights.
    """
    start = time.perf_counter()
    trained = context.pretrained.classifier
    trained.load_state_dict(load_best(context.folder.checkpoint))
    raw = predict(context, export_classifier(trained))
    calibration = calibrate(context, raw)
    shift = correct_label_shift(context, calibration.predictions)
    abstention = report_abstention(context, raw, calibration, shift)
    exported = export_classifier(trained, [calibration.logit_affine, *shift.logit_affines])
    scores = score(context, exported, shift.predictions)
    if context.accelerator.is_main_process:
        export(context, exported, abstention, selection)
        write_tables(context, shift.predictions, trained.bottleneck)
        elapsed_s = progress.elapsed_s + time.perf_counter() - start
        parts = {
            "model": _model_record(context, exported, num_trained),
            "images": scores.images,
            "results": scores.results,
            "label_shift": shift.record,
            "calibration": abstention.record,
        }
        write_record(context, progress, selection, parts, elapsed_s)
        remove(context.folder.checkpoint)
    context.accelerator.wait_for_everyone()


def predict(context: RunContext, classifier: Classifier) -> SplitPredictions:
    """Predict every split that is scored, and the training and validation splits of the targets."""
    domain_set = context.domain_set
    splits = [each for target in domain_set.targets for each in (target.train, target.validation)]
    splits += [split for _, _, split in domain_set.scored()]
    return {
        (split.name, split.split): context.predict(classifier, split, stage="predict")
        for split in splits
    }


@dataclass(frozen=True)
class RunScores:
    """Scores of a finished run, as stored in record.json."""

    results: Mapping[str, Any]
    """Scores by domain and split."""
    images: Mapping[str, Any]
    """Image preprocessing, and the scores of a plain pipeline where it preprocesses differently."""


def score(context: RunContext, exported: Classifier, predictions: SplitPredictions) -> RunScores:
    """Score every domain's test images, and the sources' validation images.

    Targets are also scored on all of their images (`transductive`), including those used for
    adaptation and selection, but not those whose labels were trained on. With few test images, this
    number is the more stable one.

    Args:
        context: The run.
        exported: The model that will be saved.
        predictions: Its predictions.
    """
    config = context.config
    merge, classes, seed = config.eval.merge, config.eval.classes, config.seed
    results: dict[str, Any] = {}
    for role, domain, split in context.domain_set.scored():
        predicted = predictions[domain.name, split.split].classes
        entry = results.setdefault(domain.name, {"role": role})
        entry[split.split] = score_predictions([split], predicted, merge, classes, seed)
    for target in context.domain_set.targets:
        splits = (target.train, target.validation, target.test)
        if context.target_labels:  # whose cells would flatter the score
            splits = (context.target_labels.hidden_from(target.train), *splits[1:])
        predicted = np.concatenate([predictions[target.name, s.split].classes for s in splits])
        results[target.name]["transductive"] = score_predictions(
            splits, predicted, merge, classes, seed
        )
    return RunScores(results, _score_plain_pipeline(context, exported))


def _score_plain_pipeline(context: RunContext, exported: Classifier) -> dict[str, Any]:
    """Return the image preprocessing, and the test scores of a plain pipeline.

    Only domains that a plain pipeline preprocesses differently are scored.
    """
    config, preprocessing = context.config, context.preprocessing
    targets = [target.name for target in context.domain_set.targets]
    facts: dict[str, Any] = preprocessing.facts()
    facts["note"] = describe(preprocessing.rule, targets)
    facts["pipeline_scores"] = {}
    for _, domain, split in context.domain_set.scored():
        if split.split == "test" and preprocessing.by_domain[domain.name] != preprocessing.plain:
            predicted = context.predict(
                exported, split, preprocessing.plain, stage="plain pipeline"
            ).classes
            facts["pipeline_scores"][domain.name] = score_predictions(
                [split], predicted, config.eval.merge, config.eval.classes, config.seed
            )
    return facts


def export(
    context: RunContext,
    exported: Classifier,
    abstention: AbstentionReport,
    selection: SelectionRule,
) -> None:
    """Write the run folder's `model/`, which transformers loads without hf_wbc."""
    preprocessing = context.preprocessing
    save_classifier(
        exported,
        preprocessing.processor,
        context.folder.model,
        notes=None if preprocessing.rule.is_plain else preprocessing.facts(),
        exposure=_exposure(context, selection),
        abstention=abstention.abstention.to_dict(),
    )


def write_tables(
    context: RunContext, predictions: SplitPredictions, bottleneck: Bottleneck | None
) -> None:
    """Write predictions.parquet and features.parquet, with one row for each scored image."""
    scored = [
        (split, predictions[domain.name, split.split])
        for _, domain, split in context.domain_set.scored()
    ]
    tables = {
        context.folder.predictions: [prediction_rows(split, found) for split, found in scored],
        context.folder.features: [
            feature_rows(split, _bottleneck_features(found, bottleneck)) for split, found in scored
        ],
    }
    for path, parts in tables.items():
        with atomic_replace(path) as temporary:
            pq.write_table(pa.concat_tables(parts), temporary)


def write_record(
    context: RunContext,
    progress: Progress,
    rule: SelectionRule,
    parts: Mapping[str, Any],
    elapsed_s: float,
) -> None:
    """Write record.json, which marks the run as finished.

    Args:
        context: The run.
        progress: Progress at the end of training.
        rule: The rule that selected the weights.
        parts: Results of the other steps: model, images, results, label_shift, calibration.
        elapsed_s: Total seconds, across resumptions.
    """
    config, num_processes = context.config, context.accelerator.num_processes
    num_images = progress.num_steps * config.optim.images_per_step * num_processes
    domain_set = context.domain_set
    record = {
        "kind": "training",
        "run": context.folder.path.name,
        "config": config.to_dict(),
        **parts,
        "sources": [domain.facts() for domain in domain_set.sources],
        "target": [domain.facts() for domain in domain_set.targets],
        "held_out": [domain.facts() for domain in domain_set.held_out],
        "target_labels": context.target_labels and context.target_labels.facts(),
        "notes": run_notes(context),
        "selection": {
            "rule": rule.name,
            "sees": rule.sees,
            "step": progress.best_step,
            "score": progress.best_score,
        },
        "history": context.folder.read_history(),
        "cost": {
            "steps": progress.num_steps,
            "train_s": progress.train_s,
            "elapsed_s": elapsed_s,
            "images_per_s": num_images / progress.train_s,
            "peak_memory_bytes": max(progress.peak_memory_bytes, peak_memory_bytes()),
        },
        "across_processes": PER_PROCESS if num_processes > 1 else "",
        "machine": machine_info(context.accelerator.device, num_processes),
        "packages": package_versions(),
    }
    context.folder.write_record(record)


def run_notes(context: RunContext) -> list[str]:
    """Return one sentence for each fact about the images that weakens the result."""
    notes, requested = context.domain_set.notes(), context.config.eval.selection
    if context.target_labels:
        notes += context.target_labels.notes
    if usable_rule(selection_rule(requested), context.domain_set).name != requested:
        notes.append(
            f"selection {requested} has no validation images to score, so the last evaluation is "
            "kept"
        )
    return notes


@torch.no_grad()
def _bottleneck_features(found: Predictions, bottleneck: Bottleneck | None) -> Predictions:
    """Replace features by those of the trained bottleneck, which the saved model does not have."""
    if bottleneck is None:
        return found
    wide = torch.from_numpy(found.features).to(bottleneck.project.weight.device)
    return replace(found, features=bottleneck.eval()(wide).cpu().numpy())


def _model_record(context: RunContext, exported: Classifier, num_trained: int) -> dict[str, Any]:
    """Return the pre-trained weights, their exposure, and the number of trained weights."""
    pretrained = context.pretrained
    return {
        "name": context.config.model.name,
        "revision": pretrained.revision,
        "exposure": pretrained.exposure,
        "exposed_to": list(pretrained.exposed_to),
        "num_parameters": sum(p.numel() for p in exported.parameters()),
        "num_trained": num_trained,
    }


def _exposure(context: RunContext, selection: SelectionRule) -> Exposure:
    """Return which domains the weights have seen by the end of the run."""
    domain_set, pretrained = context.domain_set, context.pretrained
    targets = [target.name for target in domain_set.targets]
    labeled = [domain.name for domain in (*domain_set.sources, *domain_set.held_out)]
    if selection.sees == "target labels" or context.target_labels:
        labeled, targets = [*labeled, *targets], []
    return Exposure(pretrained.exposure, pretrained.exposed_to).after(labeled, targets)
