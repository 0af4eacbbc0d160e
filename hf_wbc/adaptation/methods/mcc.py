"""MCC: minimize class confusion on the target (Jin et al. 2020, arXiv:1912.03699).

Softened predictions of a target batch are correlated class by class. The confusion of a class is
the share of its correlation that falls on other classes; MCC minimizes the mean over the classes.
It needs no alignment and no second network, but a batch large enough to contain the classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_wbc.adaptation.losses import all_gather_batch
from hf_wbc.adaptation.method import MethodOptions, NotNegative, PenaltyMethod, Positive
from hf_wbc.data.batch import Batch
from hf_wbc.models import Output


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of MCC."""

    weight: NotNegative = 1.0
    """Weight of the confusion."""
    temperature: Positive = 2.5
    """Divisor of the target logits."""


def mcc_loss(logits: Tensor, temperature: float = 2.5) -> Tensor:
    """Return the minimum class confusion loss (Jin et al. 2020, arXiv:1912.03699).

    With p the softened predictions and w weights that grow with certainty (no gradient), the
    correlation of classes j and k is sum_i w_i p_ij p_ik. Its sum over k is sum_i w_i p_ij, so the
    share that class j keeps is the mean of p_ij under the weights w_i p_ij. These are normalized in
    logarithms, which stays finite for a class that no sample of the batch has.

    Args:
        logits: Logits of unlabeled target samples (B, C).
        temperature: Divisor of the logits.

    Returns:
        A scalar in [0, 1]; 0 when no two classes are confused.
    """
    log_p = torch.log_softmax(logits / temperature, dim=1)
    p = log_p.exp()
    entropy = -(p * log_p).sum(1, keepdim=True).detach()
    share = torch.softmax(torch.log1p(torch.exp(-entropy)) + log_p, dim=0)
    return 1 - (share * p).sum(0).mean()


class Mcc(PenaltyMethod):
    """Minimum class confusion on target predictions."""

    Options = Options
    penalty_name = "confusion"
    paper = "Jin et al. 2020, arXiv:1912.03699"
    limitations = (
        "a class is rare in the target: assigning it to a frequent one causes no confusion."
    )

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        """Return the class confusion of the target batch."""
        logits = self.supervised.select_present(all_gather_batch(output_t.logits)).float()
        return mcc_loss(logits, self.options.temperature)


METHOD = Mcc
