"""The end of a run: score the kept weights, save them for others, and write the record."""

import importlib.metadata
import platform
import resource
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from hf_wbc.engine.checkpoint import Progress, load_best
from hf_wbc.engine.context import Context
from hf_wbc.engine.scoring import feature_rows, prediction_rows, score_predictions
from hf_wbc.evaluation.selection import Rule
from hf_wbc.models import save_classifier
from hf_wbc.records import remove, replacing

PACKAGES = (
    "hf_wbc", "torch", "torchvision", "transformers", "datasets", "accelerate", "pillow", "numpy"
)  # fmt: skip


def finish(context: Context, progress: Progress, selection: Rule) -> None:
    """Score every domain's test images, and the sources' validation images, with the best weights.

    Target labels are looked at here for the first time, to score.
    """
    config, folder, accelerator = context.config, context.folder, context.accelerator
    context.loaded.classifier.load_state_dict(load_best(folder.checkpoint))
    splits = [(s.name, "source", s) for s in context.corpus.sources]
    splits += [(s.name, "target", s) for s in context.corpus.targets]
    results: dict[str, Any] = {}
    predictions, features = [], []
    for name, role, domain_splits in splits:
        results[name] = {"role": role}
        for split in ("validation", "test") if role == "source" else ("test",):
            domain = getattr(domain_splits, split)
            predicted = context.predict(context.loaded.classifier, domain)
            results[name][split] = score_predictions(
                domain.labels, predicted.classes, config.merge, config.classes, config.seed
            )
            predictions.append(prediction_rows(domain, predicted))
            features.append(feature_rows(domain, predicted))
    if accelerator.is_main_process:
        save_classifier(context.loaded.classifier, context.loaded.processor, folder.model)
        for path, tables in ((folder.predictions, predictions), (folder.features, features)):
            with replacing(path) as temporary:
                pq.write_table(pa.concat_tables(tables), temporary)
        folder.write_record(_record(context, progress, selection, results))
        remove(folder.checkpoint)
    accelerator.wait_for_everyone()


def _record(
    context: Context, progress: Progress, selection: Rule, results: dict[str, Any]
) -> dict[str, Any]:
    config, accelerator = context.config, context.accelerator
    num_images = progress.step * config.batch_size * config.accumulation * accelerator.num_processes
    return {
        "kind": "training",
        "run": context.folder.path.name,
        "config": config.to_dict(),
        "sources": [splits.identity() for splits in context.corpus.sources],
        "target": [splits.identity() for splits in context.corpus.targets],
        "model": {
            "name": config.model,
            "revision": context.loaded.revision,
            "exposure": context.loaded.exposure,
            "num_parameters": sum(p.numel() for p in context.loaded.classifier.parameters()),
        },
        "selection": {
            "rule": selection.name,
            "sees": selection.sees,
            "step": progress.best_step,
            "score": progress.best_score,
        },
        "results": results,
        "history": context.folder.read_history(),
        "cost": {
            "steps": progress.step,
            "train_s": progress.train_s,
            "elapsed_s": progress.elapsed_s,
            "images_per_s": num_images / progress.train_s,
            "peak_memory_bytes": _peak_memory_bytes(),
        },
        "machine": {
            "device": _device_name(accelerator.device),
            "num_processes": accelerator.num_processes,
            "platform": platform.platform(),
            "python": platform.python_version(),
        },
        "packages": packages(),
    }


def packages() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def _peak_memory_bytes() -> int:
    """Of this process; on a GPU of what torch held there."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
