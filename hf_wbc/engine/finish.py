"""The end of a run: score the kept weights, save them for others, and write the record."""

import time
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hf_wbc.engine.checkpoint import Progress, load_best
from hf_wbc.engine.context import Context
from hf_wbc.engine.machine import machine, packages, peak_memory_bytes
from hf_wbc.engine.scoring import feature_rows, prediction_rows, score_predictions
from hf_wbc.engine.treatments import say
from hf_wbc.evaluation.selection import Rule
from hf_wbc.models import merge_lora, save_classifier
from hf_wbc.records import remove, replacing


def finish(context: Context, progress: Progress, selection: Rule) -> None:
    """Score every domain's test images, and the sources' validation images, with the best weights.

    Target labels are looked at here for the first time, to score.
    """
    config, folder, accelerator = context.config, context.folder, context.accelerator
    start = time.perf_counter()
    context.loaded.classifier.load_state_dict(load_best(folder.checkpoint))
    num_trained = sum(p.numel() for p in context.loaded.classifier.parameters() if p.requires_grad)
    merge_lora(context.loaded.classifier)  # from here on it is the model that is saved
    results: dict[str, Any] = {}
    predictions, features, treatments = [], [], context.treatments
    for role, splits, domain in context.corpus.scored():
        predicted = context.predict(context.loaded.classifier, domain)
        entry = results.setdefault(splits.name, {"role": role})
        entry[domain.split] = score_predictions(
            domain.labels, predicted.classes, config.merge, config.classes, config.seed
        )
        predictions.append(prediction_rows(domain, predicted))
        features.append(feature_rows(domain, predicted))
    images = _images(context)
    if accelerator.is_main_process:
        notes = None if treatments.rule.is_plain else treatments.facts()
        classifier, processor = context.loaded.classifier, treatments.processor
        save_classifier(classifier, processor, folder.model, notes)
        for path, tables in ((folder.predictions, predictions), (folder.features, features)):
            with replacing(path) as temporary:
                pq.write_table(pa.concat_tables(tables), temporary)
        found = {"model": _model(context, num_trained), "images": images, "results": results}
        elapsed_s = progress.elapsed_s + time.perf_counter() - start
        folder.write_record(_record(context, progress, selection, found, elapsed_s))
        remove(folder.checkpoint)
    accelerator.wait_for_everyone()


def _images(context: Context) -> dict[str, Any]:
    """How images are treated, and what a plain pipeline scores where it treats them otherwise."""
    config, treatments = context.config, context.treatments
    facts: dict[str, Any] = treatments.facts()
    facts["note"] = say(treatments.rule, [splits.name for splits in context.corpus.targets])
    facts["pipeline_scores"] = {}
    for _, splits, domain in context.corpus.scored():
        if domain.split == "test" and treatments.by_domain[splits.name] != treatments.plain:
            found = context.predict(context.loaded.classifier, domain, treatments.plain)
            facts["pipeline_scores"][splits.name] = score_predictions(
                domain.labels, found.classes, config.merge, config.classes, config.seed
            )
    return facts


def _model(context: Context, num_trained: int) -> dict[str, Any]:
    """What was trained, and how much of it."""
    config, loaded = context.config, context.loaded
    return {
        "name": config.model,
        "revision": loaded.revision,
        "exposure": loaded.exposure,
        "exposed_to": list(loaded.exposed_to),
        "num_parameters": sum(p.numel() for p in loaded.classifier.parameters()),
        "num_trained": num_trained,
    }


def _record(
    context: Context, progress: Progress, rule: Rule, found: dict[str, Any], elapsed_s: float
) -> dict[str, Any]:
    """The whole record; `found` are its parts on model, images and results."""
    config, num_processes = context.config, context.accelerator.num_processes
    num_images = progress.step * config.batch_size * config.accumulation * num_processes
    return {
        "kind": "training",
        "run": context.folder.path.name,
        "config": config.to_dict(),
        **found,
        "sources": [splits.facts() for splits in context.corpus.sources],
        "target": [splits.facts() for splits in context.corpus.targets],
        "selection": {
            "rule": rule.name,
            "sees": rule.sees,
            "step": progress.best_step,
            "score": progress.best_score,
        },
        "history": context.folder.read_history(),
        "cost": {
            "steps": progress.step,
            "train_s": progress.train_s,
            "elapsed_s": elapsed_s,
            "images_per_s": num_images / progress.train_s,
            "peak_memory_bytes": max(progress.peak_memory_bytes, peak_memory_bytes()),
        },
        "machine": machine(context.accelerator.device, num_processes),
        "packages": packages(),
    }
