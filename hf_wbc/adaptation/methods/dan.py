"""DAN: match the feature distributions in a kernel's view (Long et al. 2015, arXiv:1502.02791).

The squared maximum mean discrepancy under a sum of Gaussian kernels, unbiased: it is negative as
often as positive when the distributions are the same. (tllib adds 2 / (B - 1) to it.) All sources
together are one side, the target is the other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_wbc.adaptation.losses import all_gather_batch
from hf_wbc.adaptation.method import MethodOptions, Needs, NotNegative, PenaltyMethod
from hf_wbc.data.batch import Batch
from hf_wbc.models import Output

BANDWIDTHS = tuple(2.0**k for k in range(-3, 2))
"""sigma^2 of the kernels exp(-|x - y|^2 / 2 sigma^2), times the mean squared distance."""


@dataclass(frozen=True)
class Options(MethodOptions):
    """Of DAN."""

    weight: NotNegative = 1.0
    """Of the discrepancy."""


def mmd(f_s: Tensor, f_t: Tensor, w_s: Tensor | None = None) -> Tensor:
    """Unbiased squared multi-kernel MMD; features (B_s, d) and (B_t, d).

    `w_s` (B_s,) are importance weights of the source samples, not negative.
    """
    return mmd_from_kernel(multi_gaussian_kernel(torch.cat([f_s, f_t])), len(f_s), w_s)


def multi_gaussian_kernel(f: Tensor) -> Tensor:
    """Sum of Gaussian kernels (B, B) of samples (B, d), as wide as the samples lie apart."""
    distance = squared_distances(f)
    scale = distance.detach().mean().clamp(min=1e-12)
    parts = [torch.exp(-distance / (2 * width * scale)) for width in BANDWIDTHS]
    return torch.stack(parts).sum(0)


def squared_distances(x: Tensor) -> Tensor:
    """Euclidean (B, B) between samples (B, d)."""
    with torch.autocast(x.device.type, enabled=False):
        x = x - x.detach().mean(0)  # distances stay, and lose fewer digits
        norm = x.pow(2).sum(1)
        return (norm[:, None] + norm - 2 * x @ x.T).clamp(min=0)


def mmd_from_kernel(k: Tensor, num_s: int, w_s: Tensor | None = None) -> Tensor:
    """Mean kernel within each side plus minus twice that across; (B, B), source samples first.

    A sample is no pair with itself; a side of one sample has no pair, and adds nothing. Only ratios
    of the weights (num_s,) matter: each mean is over the weights of its pairs.
    """
    w_s = torch.ones_like(k[0, :num_s]) if w_s is None else w_s
    w_t = torch.ones_like(k[0, num_s:])
    pairs_s = torch.outer(w_s, w_s).fill_diagonal_(0)
    pairs_t = torch.outer(w_t, w_t).fill_diagonal_(0)
    within_s = _mean(k[:num_s, :num_s], pairs_s)
    within_t = _mean(k[num_s:, num_s:], pairs_t)
    return within_s + within_t - 2 * _mean(k[:num_s, num_s:], torch.outer(w_s, w_t))


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1e-12)


class Dan(PenaltyMethod):
    needs = Needs(target=True, features=True)
    Options = Options
    penalty_name = "mmd"
    paper = "Long et al. 2015, arXiv:1502.02791"
    limitations = "class proportions differ: it moves cells to where the source has more of them."

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        f_s, f_t = (all_gather_batch(output.features).float() for output in (output_s, output_t))
        w_s = self.weights(output_s, output_t, batch)
        return mmd(f_s, f_t, w_s if w_s is None else all_gather_batch(w_s))


METHOD = Dan
