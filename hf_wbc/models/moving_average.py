"""An exponential moving average of a classifier's weights (Polyak & Juditsky 1992).

It follows the weights after each step: `average <- d average + (1 - d) weights`, with d at most
(t + 1) / (t + 10) at step t from 0. Without that limit a long memory would hold on to the untrained
weights that it began with; with it, after T steps the weights of step s count 9 T! (s + 9)! /
((T + 9)! (s + 1)!), so that a run that is short for its decay is averaged over about its last
tenth. Buffers (BatchNorm's statistics) are averaged alike, whole numbers are copied.
"""

import copy
from typing import Any, Self

import torch
from torch import Tensor, nn

from hf_wbc.models.classifier import Classifier


class MovingAverage(nn.Module):
    """A copy of a classifier that never learns, and is always in evaluation mode."""

    num_updates: int = 0
    """On the host, where the decay is worked out; saved with the weights."""

    def __init__(self, classifier: Classifier, decay: float) -> None:
        """`decay` in [0, 1) is what is left of the average at each update; 0 copies."""
        super().__init__()
        assert 0 <= decay < 1
        self.classifier = copy.deepcopy(classifier).requires_grad_(False)
        self.decay = decay
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Evaluation mode, whatever is asked for."""
        return super().train(False)

    @torch.no_grad()
    def update(self, classifier: Classifier) -> None:
        """Take in the classifier's weights and buffers after a step."""
        limit = (self.num_updates + 1) / (self.num_updates + 10)
        weight = 1 - min(self.decay, limit)
        self.num_updates += 1
        mine, theirs = _tensors(self.classifier), _tensors(classifier)
        moving = [i for i, tensor in enumerate(mine) if tensor.is_floating_point()]
        torch._foreach_lerp_([mine[i] for i in moving], [theirs[i] for i in moving], weight)
        for i in set(range(len(mine))) - set(moving):
            mine[i].copy_(theirs[i])

    def get_extra_state(self) -> Tensor:
        """The number of updates, for `state_dict`."""
        return torch.tensor(self.num_updates)

    def set_extra_state(self, state: Any) -> None:
        """The inverse of `get_extra_state`."""
        self.num_updates = int(state)


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
