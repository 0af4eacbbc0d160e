"""Train one run, from its configuration to its finished folder."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch

from hf_wbc.adaptation import Method
from hf_wbc.config import TrainConfig
from hf_wbc.engine.accelerator import make_accelerator, start_trackers, training_alerts
from hf_wbc.engine.compilation import compile_network, missing_compiler
from hf_wbc.engine.context import OnStage, RunContext
from hf_wbc.engine.finalize import finalize
from hf_wbc.engine.resolve import ResolvedRun, check_config, require_trainable_features, resolve
from hf_wbc.engine.trainer import OnProgress, Trainer
from hf_wbc.evaluation.model_selection import selection_rule
from hf_wbc.models import Lora, freeze
from hf_wbc.records import RunFolder, remove

__all__ = ["RunSync", "run"]


class RunSync(Protocol):
    """Keeps a copy of a run's checkpoints elsewhere; called on the main process only."""

    def begin(self, domains: Sequence[str]) -> None:
        """Check that the run can be stored, before anything is computed.

        Raises:
            ValueError: If it cannot.
        """

    def fetch(self, folder: RunFolder) -> None:
        """Fetch the stored checkpoint before training, if the folder has none."""

    def keep(self, folder: RunFolder) -> None:
        """Store the checkpoint of an evaluation, which stays in the folder until the next one."""


def run(
    config: TrainConfig,
    root: Path,
    cache: Path,
    trackers: Sequence[str] = (),
    on_progress: OnProgress = lambda row: None,
    sync: RunSync | None = None,
    on_stage: OnStage = lambda stage, done, total: None,
) -> RunFolder:
    """Train, score and record a run.

    An unfinished run resumes from its newest checkpoint; a finished one is returned as it is.

    Args:
        config: Everything that determines the result.
        root: Folder that contains the run folders.
        cache: Folder for extracted features.
        trackers: Accelerate trackers to use in addition to the folder's history.jsonl.
        on_progress: Called with each step and each evaluation.
        sync: Keeps a copy of the checkpoints elsewhere.
        on_stage: Called with the progress of reading images, embedding and predicting.

    Returns:
        The finished folder.

    Raises:
        ValueError: Before training, for any problem that the user can correct.
    """
    check_config(config)  # fail before processes synchronize
    accelerator = make_accelerator(config.optim.mixed_precision, trackers)
    is_main = accelerator.is_main_process
    with accelerator.main_process_first():
        resolved = resolve(config, accelerator.num_processes, cache)
    folder = RunFolder.find(root, resolved.identity)
    if folder.finished:
        if is_main:
            remove(folder.checkpoint)
        return folder
    sync = sync if is_main else None
    if sync:
        sync.begin([domain.name for domain in resolved.domain_set.all])
    context = _context(resolved, accelerator, folder, cache, on_stage)
    method, num_trained = _build_method(context, resolved)

    def on_row(row: Mapping[str, Any]) -> None:
        on_progress(row)
        if sync and "selection" in row:
            sync.keep(folder)

    trainer = Trainer(context, method, selection_rule(resolved.config.eval.selection), on_row)
    with folder.writing(config.to_dict(), resolved.identity) if is_main else nullcontext():
        if sync:
            sync.fetch(folder)
        accelerator.wait_for_everyone()  # every process reads the checkpoint
        start_trackers(accelerator, folder.path, config.to_dict())
        with training_alerts(accelerator):
            progress = trainer.train()
            finalize(context, progress, trainer.rules[progress.phase], num_trained)
    accelerator.end_training()
    return folder


def _report_left_out(resolved: ResolvedRun) -> None:
    """Say on stderr why the run is not compiled although it was asked to be."""
    if resolved.requested.optim.compile and not resolved.config.optim.compile:
        print(f"hf-wbc: --compile is left out: {missing_compiler()}", file=sys.stderr)


def _context(
    resolved: ResolvedRun, accelerator: Any, folder: RunFolder, cache: Path, on_stage: OnStage
) -> RunContext:
    if accelerator.is_main_process:
        _report_left_out(resolved)
    return RunContext(
        resolved.config, accelerator, folder, resolved.domain_set, resolved.pretrained, cache,
        on_stage, resolved.target_labels,
    )  # fmt: skip


def _build_method(context: RunContext, resolved: ResolvedRun) -> tuple[Method, int]:
    """Return the method with its configured classifier, and the number of trainable weights."""
    model, seed = context.config.model, context.config.seed
    classifier = context.pretrained.classifier
    classifier.to(context.accelerator.device)
    context.embed_all()
    if model.bottleneck:
        classifier.add_bottleneck(model.bottleneck, seed)
    lora = Lora(model.lora_rank, model.lora_alpha)
    freeze(classifier, model.trainable, model.batch_norm, lora, seed)
    require_trainable_features(resolved.method, classifier)
    if context.accelerator.device.type == "cpu":  # depthwise convolutions are a third faster
        classifier.to(memory_format=torch.channels_last)
    if context.config.optim.compile:
        compile_network(classifier)
    num_trained = sum(p.numel() for p in classifier.parameters() if p.requires_grad)
    options = resolved.method.parse(context.config.adapt.method_options)
    return resolved.method(classifier, options), num_trained
