"""Deep CORAL: match the covariances of the features (Sun & Saenko 2016, arXiv:1607.01719).

All sources together form one side, the target the other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_wbc.adaptation.losses import all_gather_batch
from hf_wbc.adaptation.method import MethodOptions, Needs, NotNegative, PenaltyMethod
from hf_wbc.data.batch import Batch
from hf_wbc.models import Output


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of Deep CORAL."""

    weight: NotNegative = 1.0
    """Weight of the covariance distance."""


def coral_loss(f_s: Tensor, f_t: Tensor, w_s: Tensor | None = None) -> Tensor:
    """Return the squared Frobenius distance of two covariances, divided by 4 d^2.

    Deep CORAL loss (Sun & Saenko 2016, arXiv:1607.01719).

    Args:
        f_s: Source features (B_s, d).
        f_t: Target features (B_t, d).
        w_s: Nonnegative importance weights of the source samples (B_s,).

    Returns:
        A scalar; 0 for equal covariances.
    """
    d = f_s.shape[1]
    return (covariance(f_s, w_s) - covariance(f_t)).pow(2).sum() / (4 * d**2)


def covariance(f: Tensor, w: Tensor | None = None) -> Tensor:
    """Return the unbiased covariance (d, d) of features; zero for a single sample.

    Only ratios of weights matter. With weights of mean 1, the divisor B - 1 becomes
    B - sum(w^2) / B.

    Args:
        f: Features (B, d).
        w: Nonnegative weights (B,); equal weights if None.
    """
    num = len(f)
    w = torch.ones_like(f[:, 0]) if w is None else w / w.mean().clamp(min=1e-12)
    with torch.autocast(f.device.type, enabled=False):
        centered = f - (w @ f) / num
        divisor = (num - w.pow(2).sum() / num).clamp(min=1)
        return (w[:, None] * centered).T @ centered / divisor


class Coral(PenaltyMethod):
    """Matches the feature covariances of source and target."""

    needs = Needs(target=True, features=True)
    Options = Options
    penalty_name = "coral"
    paper = "Sun & Saenko 2016, arXiv:1607.01719"
    limitations = "class proportions differ: the covariance between classes changes with them."

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        """Return the CORAL loss of the batch."""
        f_s, f_t = (all_gather_batch(output.features).float() for output in (output_s, output_t))
        w_s = self.weights(output_s, output_t, batch)
        return coral_loss(f_s, f_t, w_s if w_s is None else all_gather_batch(w_s))


METHOD = Coral
