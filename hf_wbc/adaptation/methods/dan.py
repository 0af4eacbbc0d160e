"""DAN: match feature distributions by their kernel means (Long et al. 2015, arXiv:1502.02791).

The penalty is the squared maximum mean discrepancy under a sum of Gaussian kernels. The estimate is
unbiased, so it is negative as often as positive when the distributions are equal (tllib adds
2 / (B - 1) to it). All sources together form one side, the target the other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_wbc.adaptation.losses import all_gather_batch
from hf_wbc.adaptation.method import MethodOptions, Needs, NotNegative, PenaltyMethod
from hf_wbc.data.batch import Batch
from hf_wbc.models import Output

BANDWIDTHS = tuple(2.0**k for k in range(-3, 2))
"""sigma^2 of the kernels exp(-|x - y|^2 / (2 sigma^2)), in mean squared distances."""


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of DAN."""

    weight: NotNegative = 1.0
    """Weight of the discrepancy."""


def mmd(f_s: Tensor, f_t: Tensor, w_s: Tensor | None = None) -> Tensor:
    """Return the unbiased squared multi-kernel maximum mean discrepancy.

    Gretton et al. 2012 (JMLR 13), with the kernels of DAN (Long et al. 2015,
    arXiv:1502.02791).

    Args:
        f_s: Source features (B_s, d).
        f_t: Target features (B_t, d).
        w_s: Nonnegative importance weights of the source samples (B_s,).

    Returns:
        A scalar with mean 0 for equal distributions; it can be negative.
    """
    return mmd_from_kernel(multi_gaussian_kernel(torch.cat([f_s, f_t])), len(f_s), w_s)


def multi_gaussian_kernel(f: Tensor) -> Tensor:
    """Return a sum of Gaussian kernels (B, B) of samples (B, d).

    Bandwidths are relative to the mean squared distance of the samples.
    """
    distance = squared_distances(f)
    scale = distance.detach().mean().clamp(min=1e-12)
    parts = [torch.exp(-distance / (2 * width * scale)) for width in BANDWIDTHS]
    return torch.stack(parts).sum(0)


def squared_distances(x: Tensor) -> Tensor:
    """Return the squared Euclidean distances (B, B) of samples (B, d)."""
    with torch.autocast(x.device.type, enabled=False):
        x = x - x.detach().mean(0)  # keeps all distances, reduces cancellation
        norm = x.pow(2).sum(1)
        return (norm[:, None] + norm - 2 * x @ x.T).clamp(min=0)


def mmd_from_kernel(k: Tensor, num_s: int, w_s: Tensor | None = None) -> Tensor:
    """Return the unbiased squared MMD for a kernel matrix.

    The mean kernel within the source plus that within the target minus twice that across. A sample
    does not pair with itself, so a side with a single sample has no pairs and contributes 0.

    Args:
        k: Kernel matrix (B, B) of all samples, source samples first.
        num_s: Number of source samples.
        w_s: Nonnegative weights of the source samples (num_s,); only their ratios matter.
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
    """Minimizes the multi-kernel maximum mean discrepancy of features."""

    needs = Needs(target=True, features=True)
    Options = Options
    penalty_name = "mmd"
    paper = "Long et al. 2015, arXiv:1502.02791"
    limitations = (
        "class proportions differ: it moves cells towards classes that the source has more of."
    )

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        """Return the MMD of the batch."""
        f_s, f_t = (all_gather_batch(output.features).float() for output in (output_s, output_t))
        w_s = self.weights(output_s, output_t, batch)
        return mmd(f_s, f_t, w_s if w_s is None else all_gather_batch(w_s))


METHOD = Dan
