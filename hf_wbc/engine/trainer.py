"""Train a method: phases, evaluations and checkpoints; `loop.optimize` runs the steps."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
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
from hf_wbc.engine.compilation import uncompiled
from hf_wbc.engine.context import RunContext
from hf_wbc.engine.loop import (
    MetricAccumulator,
    Phase,
    flatten_metrics,
    make_phases,
    optimize,
    prepare_phase,
)
from hf_wbc.engine.validation import Validation, usable_rule
from hf_wbc.engine.weight_averaging import WeightAverager, make_weight_averager
from hf_wbc.evaluation.model_selection import SelectionRule, criterion_values, selection_rule
from hf_wbc.models import Classifier
from hf_wbc.taxonomy import NUM_CLASSES

OnProgress = Callable[[Mapping[str, Any]], None]
"""Called with every step, sometimes with its `loss`, and with the row of every evaluation."""
LINES_PER_EVALUATION = 10
"""Lines of history.jsonl for each evaluation; the number of steps between them is fixed, so that a
resumed run writes the same lines."""


class Trainer:
    """Trains a method; `train` resumes from the newest checkpoint, if there is one.

    The second phase trains on the target alone, so a selection rule based on sources or held-out
    domains would always prefer its first evaluation. With such a rule, the second phase keeps its
    last evaluation instead.

    Attributes:
        method: The method.
        ddp_method: The method wrapped by accelerate for the current phase.
        optimizer: Optimizer of the current phase; None if no weight is trained.
        averaged: Averaged weights of the first phase, if any.
        rules: The selection rule of each phase.
        phases: The phases to train.
    """

    ddp_method: Any = None
    optimizer: Any = None
    averaged: WeightAverager | None = None

    def __init__(
        self,
        context: RunContext,
        method: Method,
        selection: SelectionRule,
        on_progress: OnProgress = lambda row: None,
    ) -> None:
        """Set up the method and its batches.

        Args:
            context: The run.
            method: The method with its configured classifier, not yet set up.
            selection: The rule that selects the weights to keep; `last` replaces a rule whose
                validation images do not exist.
            on_progress: Called with every step and evaluation.
        """
        self.context, self.method, self.on_progress = context, method, on_progress
        self.validation = Validation(context)
        selection = usable_rule(selection, context.domain_set)
        self.rules = (
            selection,
            selection_rule("last") if selection.sees == "no target" else selection,
        )
        domain_set = context.domain_set
        source, targets = (
            [context.table(domain.train, for_training=True) for domain in domains]
            for domains in (domain_set.sources, domain_set.targets)
        )
        joined, labeled = concatenate(source), context.labeled_table
        self._setup(_class_counts(joined, len(source)), sum(map(len, targets)), labeled)
        if method.closed_form:
            self._solve(joined, targets, labeled)
        stream = self._stream(joined, targets, labeled)
        self.phases = make_phases(context.config, type(method), stream)

    @property
    def eval_model(self) -> Classifier:
        """The weights to evaluate and keep: the averaged ones, if any."""
        return self.method.eval_model if self.averaged is None else self.averaged.module

    def train(self) -> Progress:
        """Run the remaining steps of all phases, and return the final progress."""
        saved = self._load()
        progress = saved[1] if saved else Progress()
        if self.context.accelerator.is_main_process:
            self.context.folder.rewind_history(progress.step)
        for phase in self.phases[progress.phase :]:
            resumes = saved is not None and phase.number == saved[1].phase
            if phase.number != progress.phase:
                progress = progress.entering(phase.number, phase.first)
                self.validation.restart()
                best = load_best(self.context.folder.checkpoint)
                self.method.eval_model.load_state_dict(best)
            self._prepare(phase)
            if saved is not None and resumes:
                self._restore(*saved)
            progress = self._train_phase(phase, progress)
        return progress

    def _setup(self, class_counts: Tensor, num_target: int, labeled: Table | None) -> None:
        """Tell the method about the data, including the source class counts (D, C)."""
        config, context = self.context.config, self.context
        per_step = config.optim.images_per_step * context.accelerator.num_processes
        info = TrainingInfo(
            num_steps=config.optim.steps,
            source_domains=tuple(domain.name for domain in context.domain_set.sources),
            class_counts=class_counts,
            num_target=num_target,
            is_features=config.model.inputs == "features",
            adapt_passes=(config.adapt.adapt_steps or 0) * per_step / max(1, num_target),
            logit_adjustment=config.optim.logit_adjustment,
            lineage=config.optim.lineage,
            label_smoothing=config.optim.label_smoothing,
            effective_numbers=config.optim.effective_numbers,
            labeled_counts=None if labeled is None else _class_counts(labeled, 1)[0],
            target_label_weight=config.data.target_label_weight,
        )
        self.method.classifier.mask_absent_classes(info.present)
        torch.manual_seed(config.seed)
        self.method.setup(info)
        self.method.to(context.accelerator.device)

    def _solve(self, source: Table, targets: list[Table], labeled: Table | None) -> None:
        """Let a method compute its head from all features, those of every view if there are any.

        Labeled target rows are repeated until they weigh as much as in a trained method's loss.
        """
        device = self.context.accelerator.device

        def features(table: Table) -> Tensor:
            rows = table.batch(np.arange(len(table))).to(device)
            return rows.flatten(0, 1) if table.num_views else rows

        known = [source]
        if labeled is not None:
            weight = self.context.config.data.target_label_weight
            known += [labeled] * max(1, round(weight * len(source) / len(labeled)))
        labels = torch.from_numpy(np.concatenate([table.labels for table in known])).to(device)
        labels = labels.repeat_interleave(max(1, source.num_views))
        target = torch.cat([features(table) for table in targets]) if targets else None
        self.method.solve(torch.cat([features(table) for table in known]), labels, target)

    def _prepare(self, phase: Phase) -> None:
        """Wrap the method and create the optimizer of a phase."""
        optim, accelerator = self.context.config.optim, self.context.accelerator
        if self.ddp_method is not None:
            accelerator.unwrap_model(self.ddp_method, keep_fp32_wrapper=False)
            accelerator.free_memory()
        if phase.number:
            self.method.start_adapting()
            self.averaged = None
        else:
            eval_model = self.method.eval_model
            self.averaged = make_weight_averager(eval_model, ema=optim.ema, swad=optim.swad)
        self.ddp_method, self.optimizer = prepare_phase(
            self.method, phase, optim.weight_decay, optim.layer_decay, accelerator
        )

    def _train_phase(self, phase: Phase, progress: Progress) -> Progress:
        """Run the remaining steps of a phase; evaluate and save every `eval_steps`."""
        config = self.context.config
        if self._is_over(progress):
            return progress
        num_between = max(1, config.eval.eval_steps // LINES_PER_EVALUATION)
        metrics, recent = (MetricAccumulator(self.context.accelerator) for _ in range(2))
        for step, terms in optimize(
            self.ddp_method, self.optimizer, phase, self.averaged, config,
            self.context.accelerator, progress.step,
        ):  # fmt: skip
            metrics.add(terms)
            recent.add(terms)
            done = step - phase.first
            if done % config.eval.eval_steps and step < phase.stop:
                is_line = not done % num_between
                self._report_step(step, phase, recent if is_line else None)
                if is_line:
                    recent = MetricAccumulator(self.context.accelerator)
                continue
            self._report_step(step, phase)
            row = {"step": step, "phase": phase.name, "loss": metrics.means(step)}
            progress = self._save(progress, row | self.evaluate(), metrics)
            if self._is_over(progress):
                break
            metrics, recent = (MetricAccumulator(self.context.accelerator) for _ in range(2))
        return progress

    def _report_step(
        self, step: int, phase: Phase, metrics: MetricAccumulator | None = None
    ) -> None:
        """Report a step; if its losses are given, also append them to the history."""
        row: dict[str, Any] = {"step": step, "of": self.phases[-1].stop}
        if metrics is not None:
            row |= {"phase": phase.name, "loss": metrics.means(step)}
            if self.context.accelerator.is_main_process:
                self.context.folder.append_history(row)
        self.on_progress(row)

    def evaluate(self) -> dict[str, Any]:
        """Return the scores that selection rules use."""
        self._share_buffers()
        with uncompiled():
            if self.averaged is not None and self.averaged.wants_loss:
                losses = self.validation.source_losses(self.method.eval_model)
                self.averaged.after_evaluation(sum(losses) / len(losses))
                self._share_buffers()
            return self.validation(self.eval_model)

    def _is_over(self, progress: Progress) -> bool:
        """Return whether further steps of this phase cannot change the result."""
        stopped = stopped_early(progress, self.context.config.eval.patience)
        return stopped or (self.averaged is not None and self.averaged.ended)

    def _share_buffers(self) -> None:
        """Broadcast the main process's BatchNorm statistics, which are the ones that are saved.

        Weights are identical on all processes, but each process updates statistics on its own
        batches.
        """
        if self.context.accelerator.num_processes > 1:
            for buffer in (*self.eval_model.buffers(), *self.method.buffers()):
                torch.distributed.broadcast(buffer, src=0)

    def _save(
        self, progress: Progress, row: dict[str, Any], metrics: MetricAccumulator
    ) -> Progress:
        """Write history, checkpoint and trackers in an order that survives a crash in between."""
        context = self.context
        row["selection"] = criterion_values(row)
        progress = replace(
            progress.after(row["step"], row["selection"][self.rules[progress.phase].name]),
            num_steps=progress.num_steps + metrics.num_steps,
            train_s=progress.train_s + metrics.train_s,
            elapsed_s=progress.elapsed_s + metrics.elapsed_s,
            peak_memory_bytes=max(progress.peak_memory_bytes, peak_memory_bytes()),
            scaler=context.accelerator.scaler.state_dict() if context.accelerator.scaler else None,
        )
        if context.accelerator.is_main_process:
            is_best = progress.best_step == progress.step
            optimizer, averaged = self.optimizer, self.averaged
            state = {
                "method": self.method.state_dict(),
                "optimizer": optimizer_tensors(optimizer.optimizer) if optimizer else {},
                "averaged": averaged.state_dict() if averaged is not None else {},
                "validation": self.validation.state_dict(),
            }
            context.folder.append_history(row)
            best = self.eval_model.state_dict() if is_best else None
            save_checkpoint(context.folder.checkpoint, state, best, progress)
        context.accelerator.wait_for_everyone()
        context.accelerator.log(flatten_metrics({**row, "step": {}}), step=row["step"])
        self.on_progress(row)
        return progress

    def _load(self) -> tuple[Mapping[str, Mapping[str, Tensor]], Progress] | None:
        """Load the newest checkpoint, if there is one."""
        folder = self.context.folder
        try:
            return load_checkpoint(folder.checkpoint)
        except (KeyError, TypeError) as error:
            raise self._version_error(error) from error

    def _restore(self, state: Mapping[str, Mapping[str, Tensor]], progress: Progress) -> None:
        """Restore the training state from a checkpoint."""
        try:
            self.method.load_state_dict(state["method"])
            if self.optimizer:
                restore_optimizer(self.optimizer.optimizer, state["optimizer"])
            if self.averaged is not None:
                self.averaged.load_state_dict(state["averaged"])
            self.validation.load_state_dict(state.get("validation", {}))
        except (KeyError, RuntimeError) as error:
            raise self._version_error(error) from error
        scaler = self.context.accelerator.scaler
        if scaler is not None and progress.scaler is not None:
            scaler.load_state_dict(progress.scaler)

    def _version_error(self, error: Exception) -> ValueError:
        folder = self.context.folder
        return ValueError(
            f"{folder.checkpoint} was written by another version ({error}); {folder.remedy}"
        )

    def _stream(self, source: Table, targets: list[Table], labeled: Table | None) -> BatchLoader:
        """Create the loader that provides the batches of both phases."""
        context, config, needs = self.context, self.context.config, self.method.needs
        uses_target = needs.target or self.method.adapt_passes
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
            concatenate(targets) if uses_target else None,
            loader_config,
            labeled=labeled,
            preprocessing=context.preprocessing.by_domain,
            style_targets=targets,
        )


def stopped_early(progress: Progress, patience: int) -> bool:
    """Return whether the last `patience` evaluations did not improve on the best one."""
    return patience > 0 and progress.num_worse >= patience


def _class_counts(table: Table, num_domains: int) -> Tensor:
    """Return the number of images of each domain and class (D, C)."""
    cells = torch.from_numpy(table.domains * NUM_CLASSES + table.labels)
    return torch.bincount(cells, minlength=num_domains * NUM_CLASSES).view(num_domains, NUM_CLASSES)
