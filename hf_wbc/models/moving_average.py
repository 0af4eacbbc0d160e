"""Exponential moving average of a classifier's weights (Polyak & Juditsky 1992).

After each step, `average <- d average + (1 - d) weights`, with d at most (t + 1) / (t + 10) at step
t, counted from 0. Without this limit, a large decay would retain the untrained initial weights.
With it, after T steps the weights of step s count 9 T! (s + 9)! / ((T + 9)! (s + 1)!), so a run
that is short for its decay is averaged over about its last tenth. Buffers (BatchNorm statistics)
are averaged in the same way; integer tensors are copied.
"""

import copy
from typing import Any, Self

import torch
from torch import Tensor, nn

from hf_wbc.models.classifier import Classifier


class MovingAverage(nn.Module):
    """A copy of a classifier that is not trained and always in evaluation mode."""

    num_updates: int = 0
    """Kept on the host, where the decay is computed; saved with the weights."""

    def __init__(self, classifier: Classifier, decay: float) -> None:
        """Copy the classifier.

        Args:
            classifier: The classifier to follow.
            decay: Fraction in [0, 1) of the average that is kept at each update; 0 copies the
                weights.
        """
        super().__init__()
        assert 0 <= decay < 1
        self.classifier = copy.deepcopy(classifier).requires_grad_(False)
        self.decay = decay
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever `mode` is."""
        return super().train(False)

    @torch.no_grad()
    def update(self, classifier: Classifier) -> None:
        """Add the classifier's weights and buffers after a step."""
        limit = (self.num_updates + 1) / (self.num_updates + 10)
        weight = 1 - min(self.decay, limit)
        self.num_updates += 1
        mine, theirs = _tensors(self.classifier), _tensors(classifier)
        moving = [i for i, tensor in enumerate(mine) if tensor.is_floating_point()]
        torch._foreach_lerp_([mine[i] for i in moving], [theirs[i] for i in moving], weight)
        for i in set(range(len(mine))) - set(moving):
            mine[i].copy_(theirs[i])

    def get_extra_state(self) -> Tensor:
        """Return the number of updates, for `state_dict`."""
        return torch.tensor(self.num_updates)

    def set_extra_state(self, state: Any) -> None:
        """Restore the number of updates."""
        self.num_updates = int(state)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
