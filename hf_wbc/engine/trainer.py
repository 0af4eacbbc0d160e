"""The moving parts of a run: weights, optimizer, averaged weights, and how far they have come."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hf_wbc.adaptation import Method, TrainingInfo
from hf_wbc.data.loader import BatchLoader, LoaderConfig
from hf_wbc.data.table import Table, concatenate
from hf_wbc.engine.accelerator import peak_memory_bytes
from hf_wbc.engine.checkpoint import (
    Progress,
    load_best,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from hf_wbc.engine.context import RunContext
from hf_wbc.engine.loop import (
    MetricAccumulator,
    Phase,
    flatten_metrics,
    make_phases,
    optimize,
    prepare_phase,
)
from hf_wbc.engine.validation import Validation
from hf_wbc.engine.weight_averaging import WeightAverager, make_weight_averager
from hf_wbc.evaluation.model_selection import SelectionRule, criterion_values, selection_rule
from hf_wbc.models import Classifier
from hf_wbc.taxonomy import NUM_CLASSES

Report = Callable[[Mapping[str, Any]], None]
"""Is told of every step and every evaluation; the command line draws its progress from it."""


class Trainer:
    """Trains a method in a context; `train` continues from the newest checkpoint, if any.

    A second phase leaves the source behind, and a rule that looks at sources or held-out domains
    would only find its first evaluation best: there the last one is kept instead.
    """

    method: Any = None
    """The prepared method of the current phase."""
    optimizer: Any = None
    averaged: WeightAverager | None = None

    def __init__(
        self, context: RunContext, method: Method, selection: SelectionRule, report: Report
    ) -> None:
        self.context, self.report = context, report
        self.rules = (
            selection,
            selection_rule("last") if selection.sees == "no target" else selection,
        )
        self.plain, self.validation = method, Validation(context)
        config, corpus = context.config, context.corpus
        source = concatenate([context.table(splits.train) for splits in corpus.sources])
        targets = [context.table(splits.train) for splits in corpus.targets]
        counts = _class_counts(source, len(corpus.sources))
        method.classifier.mask_absent_classes(counts.sum(0) > 0)
        torch.manual_seed(config.seed)
        method.setup(
            TrainingInfo(
                num_steps=config.optim.steps,
                source_domains=tuple(splits.name for splits in corpus.sources),
                class_counts=counts,
                num_target=sum(map(len, targets)),
                is_features=config.model.inputs == "features",
                adapt_passes=self._adapt_passes(sum(map(len, targets))),
                logit_adjustment=config.optim.logit_adjustment,
                lineage=config.optim.lineage,
            )
        )
        method.to(context.accelerator.device)
        self.phases = make_phases(config, type(method), self._stream(source, targets))

    @property
    def classifier(self) -> Classifier:
        """The weights that are evaluated and kept: the averaged ones, when there are any."""
        return self.plain.eval_model if self.averaged is None else self.averaged.module

    def train(self) -> Progress:
        """Take the steps that are left, phase by phase; the progress at the end."""
        saved = self._load()
        progress = saved[1] if saved else Progress()
        if self.context.accelerator.is_main_process:
            self.context.folder.rewind_history(progress.step)
        for phase in self.phases[progress.phase :]:
            resumes = saved is not None and phase.number == saved[1].phase
            if phase.number != progress.phase:
                progress = progress.entering(phase.number, phase.first)
                self.validation.restart()
                self.plain.eval_model.load_state_dict(load_best(self.context.folder.checkpoint))
            self._enter(phase)
            if saved is not None and resumes:
                self._restore(*saved)
            progress = self._take(phase, progress)
        return progress

    def _enter(self, phase: Phase) -> None:
        """Make what a phase trains with."""
        config, accelerator = self.context.config, self.context.accelerator
        if self.method is not None:
            accelerator.unwrap_model(self.method, keep_fp32_wrapper=False)
            accelerator.free_memory()
        if phase.number:
            self.plain.start_adapting()
            self.averaged = None
        else:
            self.averaged = make_weight_averager(
                self.plain.eval_model, ema=config.optim.ema, swad=config.optim.swad
            )
        self.method, self.optimizer = prepare_phase(
            self.plain, phase, config.optim.weight_decay, config.optim.layer_decay, accelerator
        )

    def _take(self, phase: Phase, progress: Progress) -> Progress:
        """The steps of a phase that are left."""
        config = self.context.config
        if self._is_over(progress):
            return progress
        window = MetricAccumulator(self.context.accelerator)
        for step, terms in optimize(
            self.method, self.optimizer, phase, self.averaged, config,
            self.context.accelerator, progress.step,
        ):  # fmt: skip
            window.add(terms)
            self.report({"step": step, "of": self.phases[-1].stop})
            if (step - phase.first) % config.eval.eval_steps and step < phase.stop:
                continue
            row = {"step": step, "phase": phase.name, "loss": window.means(step)}
            progress = self._keep(progress, row | self.evaluate(), window)
            if self._is_over(progress):
                break
            window = MetricAccumulator(self.context.accelerator)
        return progress

    def evaluate(self) -> dict[str, Any]:
        """The scores that selection rules look at."""
        self._share_buffers()
        if self.averaged is not None and self.averaged.wants_loss:
            losses = self.validation.source_losses(self.plain.eval_model)
            self.averaged.after_evaluation(sum(losses) / len(losses))
            self._share_buffers()
        return self.validation(self.classifier)

    def _is_over(self, progress: Progress) -> bool:
        """Whether further steps of this phase would change nothing that is kept."""
        stopped = stopped_early(progress, self.context.config.eval.patience)
        return stopped or (self.averaged is not None and self.averaged.ended)

    def _share_buffers(self) -> None:
        """Give every process the first one's BatchNorm statistics, which are those that are saved.

        Weights are the same everywhere, but each process follows its own batches' statistics.
        """
        if self.context.accelerator.num_processes > 1:
            for buffer in (*self.classifier.buffers(), *self.plain.buffers()):
                torch.distributed.broadcast(buffer, src=0)

    def _keep(self, progress: Progress, row: dict[str, Any], window: MetricAccumulator) -> Progress:
        """Checkpoint, history and trackers for one evaluation, in the order that a crash allows."""
        context = self.context
        row["selection"] = criterion_values(row)
        progress = replace(
            progress.after(row["step"], row["selection"][self.rules[progress.phase].name]),
            num_steps=progress.num_steps + window.num_steps,
            train_s=progress.train_s + window.train_s,
            elapsed_s=progress.elapsed_s + window.elapsed_s,
            peak_memory_bytes=max(progress.peak_memory_bytes, peak_memory_bytes()),
            scaler=context.accelerator.scaler.state_dict() if context.accelerator.scaler else None,
        )
        if context.accelerator.is_main_process:
            is_best = progress.best_step == progress.step
            optimizer, averaged = self.optimizer, self.averaged
            state = {
                "method": self.plain.state_dict(),
                "optimizer": optimizer_tensors(optimizer.optimizer) if optimizer else {},
                "averaged": averaged.state_dict() if averaged is not None else {},
                "validation": self.validation.state_dict(),
            }
            context.folder.append_history(row)
            best = self.classifier.state_dict() if is_best else None
            save_checkpoint(context.folder.checkpoint, state, best, progress)
        context.accelerator.wait_for_everyone()
        context.accelerator.log(flatten_metrics({**row, "step": {}}), step=row["step"])
        self.report(row)
        return progress

    def _load(self) -> tuple[Mapping[str, Mapping[str, Tensor]], Progress] | None:
        """The newest checkpoint, if any."""
        folder = self.context.folder
        try:
            return load_checkpoint(folder.checkpoint)
        except (KeyError, TypeError) as error:
            raise self._foreign(error) from error

    def _restore(self, state: Mapping[str, Mapping[str, Tensor]], progress: Progress) -> None:
        """Put a checkpoint in place."""
        try:
            self.plain.load_state_dict(state["method"])
            if self.optimizer:
                restore_optimizer(self.optimizer.optimizer, state["optimizer"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["averaged"])
            self.validation.load_state_dict(state.get("validation", {}))
        except (KeyError, RuntimeError) as error:
            raise self._foreign(error) from error
        scaler = self.context.accelerator.scaler
        if scaler is not None and progress.scaler is not None:
            scaler.load_state_dict(progress.scaler)

    def _foreign(self, error: Exception) -> ValueError:
        folder = self.context.folder
        return ValueError(
            f"{folder.checkpoint} is of another version of this run ({error}); {folder.remedy}"
        )

    def _adapt_passes(self, num_target: int) -> float:
        """Passes over the target's images that the second phase will make."""
        config = self.context.config
        per_step = config.optim.images_per_step * self.context.accelerator.num_processes
        passes: float = (config.adapt.adapt_steps or 0) * per_step / max(1, num_target)
        return passes

    def _stream(self, source: Table, targets: list[Table]) -> BatchLoader:
        """The batches of both phases."""
        context, config, needs = self.context, self.context.config, self.plain.needs
        sees = needs.target or self.plain.adapt_passes
        loader_config = LoaderConfig(
            batch_size=config.optim.batch_size,
            num_steps=config.optim.steps,
            balance=config.data.balance,
            augmentation=config.data.augmentation if config.model.inputs == "images" else None,
            strong_views=needs.strong,
            pair_target=needs.target,
            seed=config.seed,
            gradient_accumulation_steps=config.optim.gradient_accumulation_steps,
            rank=context.accelerator.process_index,
            world_size=context.accelerator.num_processes,
            device=context.accelerator.device,
        )
        return BatchLoader(
            source,
            concatenate(targets) if sees else None,
            loader_config,
            preprocessing=context.treatments.by_domain,
            style_targets=targets,
        )


def stopped_early(progress: Progress, patience: int) -> bool:
    """Whether the last `patience` evaluations were all no better than the one before them."""
    return patience > 0 and progress.num_worse >= patience


def _class_counts(table: Table, num_domains: int) -> Tensor:
    cells = torch.from_numpy(table.domains * NUM_CLASSES + table.labels)
    return torch.bincount(cells, minlength=num_domains * NUM_CLASSES).view(num_domains, NUM_CLASSES)
