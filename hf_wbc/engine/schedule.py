"""The learning rate as a pure function of the step, so that resuming needs no scheduler state."""

import math

from torch.optim import Optimizer


def rate_factor(step: int, num_steps: int, warmup: float) -> float:
    """Fraction of the peak rate at `step`: a linear rise, then half a cosine down to zero.

    >>> [round(rate_factor(step, 10, 0.2), 2) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.04]
    """
    num_warmup = round(warmup * num_steps)
    if step < num_warmup:
        return (step + 1) / num_warmup
    done = (step - num_warmup) / max(1, num_steps - num_warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


def set_rate(optimizer: Optimizer, factor: float) -> None:
    """Give every group its own peak rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
