"""Mean teacher: a moving average of the student's weights that provides its training targets.

Tarvainen & Valpola 2017 (arXiv:1703.01780).
"""

import torch
from torch import Tensor

from hf_wbc.models.moving_average import MovingAverage


class Teacher(MovingAverage):
    """Moving average of the student's weights; call `update` after each optimizer step."""

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits (B, C) in fp32, without gradient."""
        logits: Tensor = self.classifier(inputs).logits
        return logits.float()
