"""A teacher: the moving average of a classifier's weights, which labels what the student learns.

Tarvainen & Valpola 2017 (arXiv:1703.01780).
"""

import torch
from torch import Tensor

from hf_wbc.models.moving_average import MovingAverage


class Teacher(MovingAverage):
    """Follows the student by `update`, after each optimizer step."""

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, C) in fp32, without gradient."""
        logits: Tensor = self.classifier(inputs).logits
        return logits.float()
