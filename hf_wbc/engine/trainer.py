"""The moving parts of a run: weights, optimizer, averaged weights, and how far they have come."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hf_wbc.adaptation import Method, Setting
from hf_wbc.data.stream import BatchStream
from hf_wbc.data.table import Table, concatenate
from hf_wbc.engine.checkpoint import (
    Progress,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from hf_wbc.engine.context import Context
from hf_wbc.engine.loop import optimise
from hf_wbc.engine.machine import peak_memory_bytes
from hf_wbc.evaluation.metrics import score
from hf_wbc.evaluation.selection import RULES, Rule
from hf_wbc.models import Classifier, param_groups
from hf_wbc.taxonomy import NUM_CLASSES

if TYPE_CHECKING:
    from accelerate import Accelerator

HEADLINE = ("macro_f1", "accuracy", "balanced_accuracy")
Report = Callable[[Mapping[str, Any]], None]
"""Is told of every step and every evaluation; the command line draws its progress from it."""


class Trainer:
    """Trains a method in a context; `train` continues from the newest checkpoint, if any."""

    def __init__(self, context: Context, method: Method, selection: Rule, report: Report) -> None:
        self.context, self.selection, self.report = context, selection, report
        config, accelerator, corpus = context.config, context.accelerator, context.corpus
        source = concatenate([context.table(splits.train) for splits in corpus.sources])
        targets = [context.table(splits.train) for splits in corpus.targets]
        torch.manual_seed(config.seed)
        method.setup(
            Setting(
                num_steps=config.steps,
                source_domains=tuple(splits.name for splits in corpus.sources),
                class_counts=_class_counts(source, len(corpus.sources)),
                num_target=sum(map(len, targets)),
            )
        )
        method.to(accelerator.device)
        groups = param_groups(method, config.lr, config.weight_decay, config.layer_decay)
        optimizer = torch.optim.AdamW(groups, fused=True)
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
        self.averaged = averaged_weights(method.classifier, config.ema) if config.ema else None
        self.plain = method
        self.method, self.optimizer = accelerator.prepare(method, optimizer)
        self.stream = BatchStream(
            source,
            concatenate(targets) if method.needs.target else None,
            batch_size=config.batch_size,
            accumulation=config.accumulation,
            balance=config.balance,
            augmentation=config.augmentation if config.inputs == "images" else None,
            treatments=context.treatments.by_domain,
            towards=targets,
            strong=method.needs.strong,
            seed=config.seed,
            num_steps=config.steps,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            device=accelerator.device,
        )

    @property
    def classifier(self) -> Classifier:
        """The weights that are evaluated and kept: the averaged ones, when there are any."""
        if self.averaged is None:
            return self.plain.classifier
        assert isinstance(self.averaged.module, Classifier)
        return self.averaged.module

    def train(self) -> Progress:
        """Take the steps that are left; the progress at the end."""
        config = self.context.config
        progress = self._resume()
        if stopped_early(progress, config.patience):
            return progress
        window = Window(self.context.accelerator)
        for step, terms in optimise(
            self.method, self.optimizer, self.stream, self.averaged, config,
            self.context.accelerator, progress.step,
        ):  # fmt: skip
            window.add(terms)
            self.report({"step": step})
            if step % config.evaluate_every and step < config.steps:
                continue
            row = {"step": step, "loss": window.means(step), "source_val": self.evaluate()}
            progress = self._keep(progress, row, window)
            if stopped_early(progress, config.patience):
                break
            window = Window(self.context.accelerator)
        return progress

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Scores of every source's validation images, by domain and name."""
        self._share_buffers()
        found = {}
        for splits in self.context.corpus.sources:
            predicted = self.context.predict(self.classifier, splits.validation).classes
            scores = score(splits.validation.labels, predicted)
            found[splits.name] = {name: scores[name] for name in HEADLINE}
        return found

    def _share_buffers(self) -> None:
        """Give every process the first one's BatchNorm statistics, which are those that are saved.

        Weights are the same everywhere, but each process follows its own batches' statistics.
        """
        if self.context.accelerator.num_processes > 1:
            for buffer in self.classifier.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def _keep(self, progress: Progress, row: dict[str, Any], window: "Window") -> Progress:
        """Checkpoint, history and trackers for one evaluation, in the order that a crash allows."""
        context = self.context
        row["selection"] = {rule.name: rule.value(row) for rule in RULES}
        progress = replace(
            progress.after(row["step"], row["selection"][self.selection.name]),
            train_s=progress.train_s + window.train_s,
            elapsed_s=progress.elapsed_s + window.elapsed_s,
            peak_memory_bytes=max(progress.peak_memory_bytes, peak_memory_bytes()),
            scaler=context.accelerator.scaler.state_dict() if context.accelerator.scaler else None,
        )
        if context.accelerator.is_main_process:
            is_best = progress.best_step == progress.step
            state = {
                "method": self.plain.state_dict(),
                "optimizer": optimizer_tensors(self.optimizer.optimizer),
                "averaged": self.averaged.state_dict() if self.averaged is not None else {},
            }
            context.folder.append_history(row)
            best = self.classifier.state_dict() if is_best else None
            save_checkpoint(context.folder.checkpoint, state, best, progress)
        context.accelerator.wait_for_everyone()
        context.accelerator.log(flat({**row, "step": {}}), step=row["step"])
        self.report(row)
        return progress

    def _resume(self) -> Progress:
        """The progress of the newest checkpoint, put in place; the history is cut back to it."""
        folder = self.context.folder
        try:
            saved = load_checkpoint(folder.checkpoint)
            progress = self._restore(*saved) if saved else Progress()
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"{folder.checkpoint} is of another version of this run ({error}); {folder.remedy}"
            ) from error
        if self.context.accelerator.is_main_process:
            folder.rewind_history(progress.step)
        return progress

    def _restore(self, state: Mapping[str, Mapping[str, Tensor]], progress: Progress) -> Progress:
        self.plain.load_state_dict(state["method"])
        restore_optimizer(self.optimizer.optimizer, state["optimizer"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        scaler = self.context.accelerator.scaler
        if scaler is not None and progress.scaler is not None:
            scaler.load_state_dict(progress.scaler)
        return progress


class Window:
    """Mean loss terms and the time since the last evaluation."""

    def __init__(self, accelerator: "Accelerator") -> None:
        self.accelerator = accelerator
        self.start = time.perf_counter()
        self.train_s = 0.0
        self.num_steps = 0
        self.sums: dict[str, Tensor] = {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Add one step's terms without waiting for the device."""
        self.num_steps += 1
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term

    def means(self, step: int) -> dict[str, float]:
        """Mean terms of all processes since the last evaluation.

        ValueError when one of them is no longer a number.
        """
        sums = self.accelerator.reduce(torch.stack(list(self.sums.values())), "mean").tolist()
        means = {name: sums[i] / self.num_steps for i, name in enumerate(self.sums)}
        self.train_s = time.perf_counter() - self.start
        if not all(map(math.isfinite, means.values())):
            raise ValueError(f"the loss at step {step} is {means['loss']}; lower --lr")
        return means

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self.start


def flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested numbers under names joined by slashes, as trackers want them.

    >>> flat({"step": 2, "loss": {"loss": 0.5}})
    {'step': 2, 'loss/loss': 0.5}
    """
    values: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{name}/")
        else:
            values[prefix + name] = value
    return values


def stopped_early(progress: Progress, patience: int) -> bool:
    """Whether the last `patience` evaluations were all no better than the one before them."""
    return patience > 0 and progress.num_worse >= patience


def averaged_weights(classifier: Classifier, decay: float) -> AveragedModel:
    """An exponential moving average of all weights and buffers (Polyak & Juditsky 1992)."""
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(classifier, multi_avg_fn=average, use_buffers=True)


def _class_counts(table: Table, num_domains: int) -> Tensor:
    cells = torch.from_numpy(table.domains * NUM_CLASSES + table.labels)
    return torch.bincount(cells, minlength=num_domains * NUM_CLASSES).view(num_domains, NUM_CLASSES)
