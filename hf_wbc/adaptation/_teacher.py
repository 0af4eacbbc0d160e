"""A teacher: the moving average of a classifier's weights, which labels what the student learns.

Tarvainen & Valpola 2017 (arXiv:1703.01780). It is always in evaluation mode, and never learns.
"""

import copy
from typing import Self

import torch
from torch import Tensor, nn

from hf_wbc.models import Classifier


class Teacher(nn.Module):
    """Holds a copy of a classifier that follows it by `update`, after each optimizer step."""

    steps: Tensor
    """Updates so far, () int64."""

    def __init__(self, classifier: Classifier, decay: float, ramp_up: bool = True) -> None:
        """`decay` in [0, 1) is what is left of the teacher at each update; 0 copies the student.

        With `ramp_up` it is at most (step + 1) / (step + 10), so that a long memory does not hold
        on to the untrained weights that it begins with.
        """
        super().__init__()
        assert 0 <= decay < 1
        self.classifier = copy.deepcopy(classifier).requires_grad_(False)
        self.decay, self.ramp_up = decay, ramp_up
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.train(False)

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, C) in fp32, without gradient."""
        logits: Tensor = self.classifier(inputs).logits
        return logits.float()

    def train(self, mode: bool = True) -> Self:
        """Evaluation mode, whatever is asked for."""
        return super().train(False)

    @torch.no_grad()
    def update(self, classifier: Classifier) -> None:
        """Move weights and running statistics towards the classifier's; counters are copied."""
        # A tensor all along: reading the count back would wait for the device.
        decay = torch.full_like(self.steps, self.decay, dtype=torch.float32)
        if self.ramp_up:
            decay = torch.minimum(decay, (self.steps + 1) / (self.steps + 10))
        self.steps += 1
        for mine, theirs in zip(_state(self.classifier), _state(classifier), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, (1 - decay).to(mine.dtype))
            else:
                mine.copy_(theirs)


def _state(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
