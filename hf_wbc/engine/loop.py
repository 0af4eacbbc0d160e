"""The training loop of all methods and both phases.

A phase has its own steps, batches, optimizer and learning rate. The learning rate is a pure
function of the step, so resuming needs no scheduler state. `MetricAccumulator` averages the loss
terms of several steps.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hf_wbc.adaptation import Method
from hf_wbc.config import TrainConfig
from hf_wbc.data.batch import Batch, TargetBatch
from hf_wbc.data.loader import BatchLoader
from hf_wbc.engine.weight_averaging import WeightAverager
from hf_wbc.models import param_groups

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Phase:
    """A training phase: `fit` on source and target, or `adapt` on the target alone."""

    name: str
    number: int
    """0 for `fit`, 1 for `adapt`."""
    first: int
    """First step of the phase, counted across phases."""
    num_steps: int
    lr: float
    batch: Callable[[int, int], Batch | TargetBatch]
    """Returns the batch for a step of this phase (from 0) and a forward pass within that step."""

    @property
    def stop(self) -> int:
        """The step after the last one."""
        return self.first + self.num_steps


def make_phases(
    config: TrainConfig, method: type[Method], stream: BatchLoader
) -> tuple[Phase, ...]:
    """Return the phases of a method, with batches from a loader."""
    phases = [Phase("fit", 0, 0, config.optim.steps, config.optim.learning_rate, stream.batch)]
    if method.adapt_passes and config.adapt.adapt_steps:
        rate, num_steps = config.adapt.adapt_learning_rate, config.adapt.adapt_steps
        assert rate is not None

        def target_batch(step: int, micro: int) -> TargetBatch:
            return stream.target_batch(step, num_steps, micro)

        phases.append(Phase("adapt", 1, config.optim.steps, num_steps, rate, target_batch))
    return tuple(phases)


def prepare_phase(
    method: nn.Module, phase: Phase, weight_decay: float, layer_decay: float,
    accelerator: "Accelerator",
) -> tuple[Any, Any]:  # fmt: skip
    """Create the optimizer of a phase, and prepare method and optimizer for the device.

    Returns:
        The wrapped method, and its optimizer or None if no weight is trainable.
    """
    groups = param_groups(method, phase.lr, weight_decay, layer_decay)
    if not groups:
        return accelerator.prepare_model(method, evaluation_mode=True), None
    optimizer = torch.optim.AdamW(groups, fused=True)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    method, optimizer = accelerator.prepare(method, optimizer)
    return method, optimizer


def rate_factor(step: int, num_steps: int, warmup: float) -> float:
    """Return the learning rate at `step` as a fraction of its peak.

    The rate rises linearly during warmup, then follows half a cosine down to zero.

    Examples:
        >>> [round(rate_factor(step, 10, 0.2), 2) for step in (0, 1, 2, 6, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    num_warmup = round(warmup * num_steps)
    if step < num_warmup:
        return (step + 1) / num_warmup
    done = (step - num_warmup) / max(1, num_steps - num_warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


def set_rate(optimizer: Optimizer, factor: float) -> None:
    """Set the learning rate of each parameter group to its peak rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def optimize(
    method: Any,
    optimizer: Optimizer | None,
    phase: Phase,
    averaged: WeightAverager | None,
    config: TrainConfig,
    accelerator: "Accelerator",
    first_step: int = 0,
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Run the steps of a phase, and yield after each one.

    All random draws depend only on the seed, the step and the process, so a run that resumes from
    the weights of `first_step` gives bit-identical results.

    Args:
        method: The method, as prepared by `prepare_phase`.
        optimizer: The prepared optimizer; if None, the method sees the batches but no weight is
            trained.
        phase: The phase to run.
        averaged: Averaged weights to update after each step.
        config: The resolved configuration.
        accelerator: The accelerator of this process.
        first_step: Number of steps already completed, counted across phases.

    Yields:
        The number of steps completed, and the mean loss terms of this process in that step.
    """
    plain = accelerator.unwrap_model(method)
    world, rank = accelerator.num_processes, accelerator.process_index
    learning = [p for group in optimizer.param_groups for p in group["params"]] if optimizer else []
    num_micro = config.optim.gradient_accumulation_steps
    method.train()
    for step in range(max(first_step, phase.first), phase.stop):
        own = step - phase.first
        if optimizer:
            set_rate(optimizer, rate_factor(own, phase.num_steps, config.optim.warmup_ratio))
        means: dict[str, Tensor] = {}
        for micro in range(num_micro):
            batch = phase.batch(own, micro)
            draw = (step * num_micro + micro) * world + rank
            _seed_dropout(accelerator.device, config.seed, draw)
            last = micro == num_micro - 1
            with nullcontext() if last else accelerator.no_sync(method):
                terms = method(batch)
                if optimizer:
                    accelerator.backward(terms["loss"] / num_micro)
            for name, term in terms.items():
                means[name] = means.get(name, 0) + term.detach() / num_micro
        if optimizer:
            if config.optim.max_grad_norm:
                accelerator.clip_grad_norm_(learning, config.optim.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        plain.after_step()
        if averaged is not None:
            averaged.update_parameters(plain.eval_model)
        yield step + 1, means


def _seed_dropout(device: torch.device, seed: int, draw: int) -> None:
    """Seed torch's generators directly; without a GPU, `torch.manual_seed` would take 1 ms."""
    mixed = np.random.SeedSequence((seed, draw)).generate_state(1, np.uint64)[0]
    torch.default_generator.manual_seed(int(mixed >> np.uint64(1)))
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(int(mixed >> np.uint64(1)))


class MetricAccumulator:
    """Accumulates the loss terms of steps and measures their time."""

    def __init__(self, accelerator: "Accelerator") -> None:
        self.accelerator = accelerator
        self.start = time.perf_counter()
        self.train_s = 0.0
        self.num_steps = 0
        self.sums: dict[str, Tensor] = {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Add the terms of one step without synchronizing with the device."""
        self.num_steps += 1
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0) + term

    def means(self, step: int) -> dict[str, float]:
        """Return the mean terms of all processes and all steps so far.

        Raises:
            ValueError: If a term is not finite.
        """
        sums = self.accelerator.reduce(torch.stack(list(self.sums.values())), "mean").tolist()
        means = {name: sums[i] / self.num_steps for i, name in enumerate(self.sums)}
        self.train_s = time.perf_counter() - self.start
        if not all(map(math.isfinite, means.values())):
            raise ValueError(f"the loss at step {step} is {means['loss']}; lower --learning-rate")
        return means

    @property
    def elapsed_s(self) -> float:
        """Seconds so far, including an evaluation."""
        return time.perf_counter() - self.start


def flatten_metrics(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Flatten nested metrics into numbers with slash-separated names, as trackers expect.

    Values other than numbers are dropped.

    Examples:
        >>> flatten_metrics({"step": 2, "loss": {"loss": 0.5}, "phase": "fit"})
        {'step': 2, 'loss/loss': 0.5}
    """
    values: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            values |= flatten_metrics(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            values[prefix + name] = value
    return values
