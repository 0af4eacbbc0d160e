"""The end of a run: score the kept weights, save them for others, and write the record."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hf_wbc.engine.accelerator import machine_info, package_versions, peak_memory_bytes
from hf_wbc.engine.calibrate import LabelShift, Scored, abstention_report, source_temperature
from hf_wbc.engine.checkpoint import Progress, load_best
from hf_wbc.engine.context import RunContext
from hf_wbc.engine.domain_preprocessing import describe
from hf_wbc.engine.domains import Domain
from hf_wbc.engine.forward import Predictions
from hf_wbc.engine.scores import feature_rows, prediction_rows, score_predictions
from hf_wbc.evaluation.model_selection import SelectionRule
from hf_wbc.models import Bottleneck, Exposure, merge_lora, save_classifier
from hf_wbc.records import atomic_replace, remove

PER_PROCESS = (
    "statistics in a loss are of all processes' samples; those of BatchNorm are of each process's "
    "own, and the first one's are kept"
)


def finalize(
    context: RunContext, progress: Progress, selection: SelectionRule, num_trained: int
) -> None:
    """Score every domain's test images, and the sources' validation images, with the best weights.

    Target labels are looked at here for the first time, to score.
    """
    config, folder, accelerator = context.config, context.folder, context.accelerator
    start = time.perf_counter()
    classifier = context.loaded.classifier
    classifier.load_state_dict(load_best(folder.checkpoint))
    merge_lora(classifier)  # from here on it is the model that is saved
    bottleneck = classifier.bottleneck
    classifier.merge_bottleneck()
    scored = [*context.corpus.scored()]
    unlabelled = [(s, d) for s in context.corpus.targets for d in (s.train, s.validation)]
    predicted: Scored = {
        (splits.name, domain.split): context.predict(classifier, domain)
        for splits, domain in [*unlabelled, *((splits, domain) for _, splits, domain in scored)]
    }
    raw, (temperature, never) = predicted, source_temperature(context, predicted)
    classifier.apply_logit_affine(1 / temperature, torch.from_numpy(never))
    predicted = _changed(raw, 1 / temperature, never)
    # From here on logits are those of the calibrated head; priors only add to them what is missing.
    label_shift = LabelShift(context, predicted) if config.data.target else None
    shifts = label_shift.facts(predicted) if label_shift else {}
    if label_shift and config.eval.correct_priors != "none":
        scale, bias = label_shift.change(context.corpus.targets[0].name, config.eval.correct_priors)
        classifier.apply_logit_affine(scale, torch.from_numpy(bias))
        predicted = _changed(predicted, scale, bias)
    doubts = abstention_report(context, temperature, raw, predicted, label_shift)
    results: dict[str, Any] = {}
    predictions, features, treatments = [], [], context.treatments
    for role, splits, domain in scored:
        found = predicted[splits.name, domain.split]
        entry = results.setdefault(splits.name, {"role": role})
        entry[domain.split] = score_predictions(
            [domain], found.classes, config.eval.merge, config.eval.classes, config.seed
        )
        predictions.append(prediction_rows(domain, found))
        features.append(feature_rows(domain, _narrowed(found, bottleneck)))
    for splits in context.corpus.targets:
        results[splits.name]["transductive"] = _score_all(context, splits, predicted)
    images = _images(context)
    if accelerator.is_main_process:
        notes = None if treatments.rule.is_plain else treatments.facts()
        exposure = _exposure(context, selection)
        abstention = doubts.abstention.to_dict()
        save_classifier(classifier, treatments.processor, folder.model, notes, exposure, abstention)
        for path, tables in ((folder.predictions, predictions), (folder.features, features)):
            with atomic_replace(path) as temporary:
                pq.write_table(pa.concat_tables(tables), temporary)
        parts = {
            "model": _model(context, num_trained),
            "images": images,
            "results": results,
            "label_shift": shifts,
            "calibration": doubts.facts(context),
        }
        elapsed_s = progress.elapsed_s + time.perf_counter() - start
        folder.write_record(_record(context, progress, selection, parts, elapsed_s))
        remove(folder.checkpoint)
    accelerator.wait_for_everyone()


def _changed(predicted: Scored, scale: float, bias: np.ndarray) -> Scored:
    """Predictions of the classifier whose head says `scale * logits + bias` (11,)."""
    return {key: found.changed(scale, bias) for key, found in predicted.items()}


def _score_all(context: RunContext, splits: Domain, predicted: Scored) -> dict[str, Any] | None:
    """Scores of all images of a target, those that were adapted to and chosen by included.

    Where the test images are few, this is the steadier number; it is marked for what it is.
    """
    config, domains = context.config, (splits.train, splits.validation, splits.test)
    found = np.concatenate([predicted[splits.name, domain.split].classes for domain in domains])
    return score_predictions(domains, found, config.eval.merge, config.eval.classes, config.seed)


@torch.no_grad()
def _narrowed(found: Predictions, bottleneck: Bottleneck | None) -> Predictions:
    """With the features that the bottleneck, which is no part of the saved model, made of them."""
    if bottleneck is None:
        return found
    wide = torch.from_numpy(found.features).to(bottleneck.project.weight.device)
    return replace(found, features=bottleneck.eval()(wide).cpu().numpy())


def _images(context: RunContext) -> dict[str, Any]:
    """How images are treated, and what a plain pipeline scores where it treats them otherwise."""
    config, treatments = context.config, context.treatments
    facts: dict[str, Any] = treatments.facts()
    facts["note"] = describe(treatments.rule, [splits.name for splits in context.corpus.targets])
    facts["pipeline_scores"] = {}
    for _, splits, domain in context.corpus.scored():
        if domain.split == "test" and treatments.by_domain[splits.name] != treatments.plain:
            found = context.predict(context.loaded.classifier, domain, treatments.plain)
            facts["pipeline_scores"][splits.name] = score_predictions(
                [domain], found.classes, config.eval.merge, config.eval.classes, config.seed
            )
    return facts


def _model(context: RunContext, num_trained: int) -> dict[str, Any]:
    """What was trained, and how much of it."""
    config, loaded = context.config, context.loaded
    return {
        "name": config.model.name,
        "revision": loaded.revision,
        "exposure": loaded.exposure,
        "exposed_to": list(loaded.exposed_to),
        "num_parameters": sum(p.numel() for p in loaded.classifier.parameters()),
        "num_trained": num_trained,
    }


def _exposure(context: RunContext, selection: SelectionRule) -> Exposure:
    """What the weights have seen when the run is over."""
    corpus, loaded = context.corpus, context.loaded
    targets = [splits.name for splits in corpus.targets]
    labelled = [splits.name for splits in (*corpus.sources, *corpus.held_out)]
    if selection.sees == "target labels":
        labelled, targets = [*labelled, *targets], []
    return Exposure(loaded.exposure, loaded.exposed_to).after(labelled, targets)


def _record(
    context: RunContext,
    progress: Progress,
    rule: SelectionRule,
    found: dict[str, Any],
    elapsed_s: float,
) -> dict[str, Any]:
    """The whole record; `found` are its parts on model, images, results and label shift."""
    config, num_processes = context.config, context.accelerator.num_processes
    num_images = progress.num_steps * config.optim.images_per_step * num_processes
    return {
        "kind": "training",
        "run": context.folder.path.name,
        "config": config.to_dict(),
        **found,
        "sources": [splits.facts() for splits in context.corpus.sources],
        "target": [splits.facts() for splits in context.corpus.targets],
        "held_out": [splits.facts() for splits in context.corpus.held_out],
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
