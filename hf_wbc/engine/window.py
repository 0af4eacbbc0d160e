"""What happened between two evaluations: mean loss terms, time, and names for the trackers."""

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from accelerate import Accelerator


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
    """Numbers under names joined by slashes, as trackers want them; what is no number is left out.

    >>> flat({"step": 2, "loss": {"loss": 0.5}, "phase": "fit"})
    {'step': 2, 'loss/loss': 0.5}
    """
    values: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            values[prefix + name] = value
    return values
