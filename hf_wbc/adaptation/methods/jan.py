"""JAN: match features and predictions jointly (Long et al. 2017, arXiv:1605.06636).

As DAN, with the product of the features' kernel and one of the softmax outputs: what has to match
is which features go with which predictions, not features alone. All sources together are one side,
the target is the other.
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
"""Fixed bandwidth of the kernel of softmax outputs; the authors' code has 2 sigma^2 = 1.68."""


@dataclass(frozen=True)
class Options(MethodOptions):
    """Of JAN."""

    weight: NotNegative = 1.0
    """Of the discrepancy."""


def joint_mmd(
    f_s: Tensor, p_s: Tensor, f_t: Tensor, p_t: Tensor, w_s: Tensor | None = None
) -> Tensor:
    """Unbiased squared joint MMD; features (B_s, d), (B_t, d), softmax (B_s, C), (B_t, C).

    `w_s` (B_s,) are importance weights of the source samples, not negative.
    """
    distance = squared_distances(torch.cat([p_s, p_t]))
    of_softmax = torch.exp(-distance / (2 * SOFTMAX_SIGMA**2))
    return mmd_from_kernel(multi_gaussian_kernel(torch.cat([f_s, f_t])) * of_softmax, len(f_s), w_s)


class Jan(PenaltyMethod):
    needs = Needs(target=True, features=True)
    Options = Options
    penalty_name = "joint_mmd"
    paper = "Long et al. 2017, arXiv:1605.06636"
    limitations = "class proportions differ: predictions are to be as frequent as in the source."

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        f_s, f_t = (all_gather_batch(output.features).float() for output in (output_s, output_t))
        p_s, p_t = (
            all_gather_batch(output.logits).float().softmax(1) for output in (output_s, output_t)
        )
        return joint_mmd(f_s, p_s, f_t, p_t)


METHOD = Jan
