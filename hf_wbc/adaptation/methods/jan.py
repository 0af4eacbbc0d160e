"""JAN: match features and predictions jointly (Long et al. 2017, arXiv:1605.06636).

As DAN, with the product of a kernel of the features and a kernel of the softmax outputs: the joint
distribution of features and predictions has to match, not that of features alone. All sources
together form one side, the target the other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_wbc.adaptation.losses import all_gather_batch
from hf_wbc.adaptation.method import MethodOptions, Needs, NotNegative, PenaltyMethod
from hf_wbc.adaptation.methods.dan import mmd_from_kernel, multi_gaussian_kernel, squared_distances
from hf_wbc.data.batch import Batch
from hf_wbc.models import Output

SOFTMAX_SIGMA = 0.92
"""Fixed bandwidth of the softmax kernel; the authors' code uses 2 sigma^2 = 1.68."""


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of JAN."""

    weight: NotNegative = 1.0
    """Weight of the discrepancy."""


def joint_mmd(
    f_s: Tensor, p_s: Tensor, f_t: Tensor, p_t: Tensor, w_s: Tensor | None = None
) -> Tensor:
    """Return the unbiased squared joint MMD of features and predictions.

    Long et al. 2017, arXiv:1605.06636, with an unbiased estimate.

    Args:
        f_s: Source features (B_s, d).
        p_s: Source softmax outputs (B_s, C).
        f_t: Target features (B_t, d).
        p_t: Target softmax outputs (B_t, C).
        w_s: Nonnegative importance weights of the source samples (B_s,).

    Returns:
        A scalar with mean 0 for equal distributions; it can be negative.
    """
    distance = squared_distances(torch.cat([p_s, p_t]))
    of_softmax = torch.exp(-distance / (2 * SOFTMAX_SIGMA**2))
    return mmd_from_kernel(multi_gaussian_kernel(torch.cat([f_s, f_t])) * of_softmax, len(f_s), w_s)


class Jan(PenaltyMethod):
    """Minimizes the joint maximum mean discrepancy of features and predictions."""

    needs = Needs(target=True, features=True)
    Options = Options
    penalty_name = "joint_mmd"
    paper = "Long et al. 2017, arXiv:1605.06636"
    limitations = "class proportions differ: it makes predictions as frequent as in the source."

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        """Return the joint MMD of the batch."""
        f_s, f_t = (all_gather_batch(output.features).float() for output in (output_s, output_t))
        p_s, p_t = (
            all_gather_batch(output.logits).float().softmax(1) for output in (output_s, output_t)
        )
        return joint_mmd(f_s, p_s, f_t, p_t)


METHOD = Jan
