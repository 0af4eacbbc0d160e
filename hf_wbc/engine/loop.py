"""The training loop: one page, for every method and both phases."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from hf_wbc.config import TrainConfig
from hf_wbc.engine.averaging import Averaged
from hf_wbc.engine.phase import Phase
from hf_wbc.engine.schedule import rate_factor, set_rate

if TYPE_CHECKING:
    from accelerate import Accelerator


def optimise(
    method: Any,
    optimizer: Optimizer | None,
    phase: Phase,
    averaged: Averaged | None,
    config: TrainConfig,
    accelerator: "Accelerator",
    first_step: int = 0,
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Take a phase's steps; after each, yield how many are done and this process's mean loss terms.

    Every draw depends on the seed, the step and the process alone, so that a run which continues
    at `first_step` with the weights of then ends in the same bits. `method` and `optimizer` are
    the prepared ones; without an optimizer no weight learns, and the method sees its batches.
    """
    plain = accelerator.unwrap_model(method)
    world, rank = accelerator.num_processes, accelerator.process_index
    learning = [p for group in optimizer.param_groups for p in group["params"]] if optimizer else []
    method.train()
    for step in range(max(first_step, phase.first), phase.stop):
        own = step - phase.first
        if optimizer:
            set_rate(optimizer, rate_factor(own, phase.num_steps, config.warmup))
        means: dict[str, Tensor] = {}
        for micro in range(config.accumulation):
            batch = phase.batch(own, micro)
            draw = (step * config.accumulation + micro) * world + rank
            _seed_dropout(accelerator.device, config.seed, draw)
            last = micro == config.accumulation - 1
            with nullcontext() if last else accelerator.no_sync(method):
                terms = method(batch)
                if optimizer:
                    accelerator.backward(terms["loss"] / config.accumulation)
            for name, term in terms.items():
                means[name] = means.get(name, 0) + term.detach() / config.accumulation
        if optimizer:
            if config.clip:
                accelerator.clip_grad_norm_(learning, config.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        plain.after_step()
        if averaged is not None:
            averaged.update_parameters(plain.kept)
        yield step + 1, means


def _seed_dropout(device: torch.device, seed: int, draw: int) -> None:
    """Start torch's own generators anew; where there is no GPU, `torch.manual_seed` costs 1 ms."""
    mixed = np.random.SeedSequence((seed, draw)).generate_state(1, np.uint64)[0]
    torch.default_generator.manual_seed(int(mixed >> np.uint64(1)))
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(int(mixed >> np.uint64(1)))
