"""A phase of training: its steps, its batches, and the optimizer of what learns in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hf_wbc.adaptation import Method
from hf_wbc.config import TrainConfig
from hf_wbc.data.batch import Batch, TargetBatch
from hf_wbc.data.loader import BatchStream
from hf_wbc.models import param_groups

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Phase:
    """`fit` on source and target, or `adapt` on the target alone."""

    name: str
    number: int
    """0 or 1."""
    first: int
    """Its first step, in a count that goes on through all phases."""
    num_steps: int
    lr: float
    batch: Callable[[int, int], Batch | TargetBatch]
    """The batch of one of its own steps, counted from 0, and forward pass."""

    @property
    def stop(self) -> int:
        """The step after its last one."""
        return self.first + self.num_steps


def make_phases(
    config: TrainConfig, method: type[Method], stream: BatchStream
) -> tuple[Phase, ...]:
    """The phases of a method, with batches from a stream."""
    phases = [Phase("fit", 0, 0, config.steps, config.lr, stream.batch)]
    if method.adapt_passes and config.adapt_steps:
        assert config.adapt_lr is not None
        num_steps = config.adapt_steps

        def target_batch(step: int, micro: int) -> TargetBatch:
            return stream.target_batch(step, num_steps, micro)

        phases.append(Phase("adapt", 1, config.steps, num_steps, config.adapt_lr, target_batch))
    return tuple(phases)


def prepare(
    method: nn.Module, phase: Phase, weight_decay: float, layer_decay: float,
    accelerator: "Accelerator",
) -> tuple[Any, Any]:  # fmt: skip
    """The method and its optimizer, wrapped for the device; no optimizer where no weight learns."""
    groups = param_groups(method, phase.lr, weight_decay, layer_decay)
    if not groups:
        return accelerator.prepare_model(method, evaluation_mode=True), None
    optimizer = torch.optim.AdamW(groups, fused=True)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    method, optimizer = accelerator.prepare(method, optimizer)
    return method, optimizer
