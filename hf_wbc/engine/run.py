"""One training run, from its configuration to its finished folder."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

from hf_wbc.config import TrainConfig
from hf_wbc.engine.accelerator import make_accelerator, start_trackers
from hf_wbc.engine.context import RunContext
from hf_wbc.engine.finalize import finalize
from hf_wbc.engine.resolve import check_config, require_trainable_features, resolve
from hf_wbc.engine.trainer import Report, Trainer
from hf_wbc.evaluation.model_selection import selection_rule
from hf_wbc.models import Lora, freeze
from hf_wbc.records import RunFolder, remove


class RunSync(Protocol):
    """Keeps a run's checkpoints elsewhere too; it is asked on the first process alone."""

    def begin(self, domains: Sequence[str]) -> None:
        """Before anything of a run is computed: ValueError where it could not be kept."""

    def fetch(self, folder: RunFolder) -> None:
        """Before training: bring what was kept of this run, where the folder holds nothing."""

    def keep(self, folder: RunFolder) -> None:
        """After each evaluation, whose checkpoint lies in the folder until the next one."""


def run(
    config: TrainConfig,
    root: Path,
    cache: Path,
    trackers: Sequence[str] = (),
    report: Report = lambda row: None,
    keeper: RunSync | None = None,
) -> RunFolder:
    """Train, score and record; a finished run is returned as it is, an unfinished one resumes.

    The run's folder lies in `root`, embedded features in `cache`. ValueError for whatever the user
    can mend, before anything is trained.
    """
    asked = config.to_dict()
    check_config(config)  # before processes are started for a run that cannot be
    accelerator = make_accelerator(config.optim.mixed_precision, trackers)
    is_main = accelerator.is_main_process
    with accelerator.main_process_first():
        resolved = resolve(config, accelerator.num_processes)
    config, method_class, identity = resolved.config, resolved.method, resolved.identity
    corpus, loaded = resolved.domain_set, resolved.pretrained
    lora = Lora(config.model.lora_rank, config.model.lora_alpha)
    selection = selection_rule(config.eval.selection)
    folder = RunFolder.find(root, identity)
    if folder.finished:
        if is_main:
            remove(folder.checkpoint)
        return folder
    if keeper and is_main:
        keeper.begin([splits.name for splits in corpus.all])
    loaded.classifier.to(accelerator.device)
    context = RunContext(config, accelerator, folder, corpus, loaded, cache)
    context.embed_all()
    if config.model.bottleneck:
        loaded.classifier.add_bottleneck(config.model.bottleneck, config.seed)
    freeze(loaded.classifier, config.model.trainable, config.model.batch_norm, lora, config.seed)
    require_trainable_features(method_class, loaded.classifier)
    num_trained = sum(p.numel() for p in loaded.classifier.parameters() if p.requires_grad)
    method = method_class(loaded.classifier, method_class.parse(config.adapt.method_options))

    def told(row: Mapping[str, Any]) -> None:
        report(row)
        if keeper and is_main and "selection" in row:
            keeper.keep(folder)

    trainer = Trainer(context, method, selection, told)
    with folder.writing(asked, identity) if is_main else nullcontext():
        if keeper and is_main:
            keeper.fetch(folder)
        accelerator.wait_for_everyone()  # all of them read the checkpoint
        start_trackers(accelerator, folder.path, asked)
        progress = trainer.train()
        finalize(context, progress, trainer.rules[progress.phase], num_trained)
    accelerator.end_training()
    return folder
