"""MCC: classes that are not confused with each other on the target (Jin et al. 2020,
arXiv:1912.03699).

Softened predictions of a target batch are correlated class by class; each class's share of
correlation with other classes is its confusion, and their mean over the classes is minimised. There
is nothing to align and no other network, only the batch has to be large enough to hold classes.
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
    """Of MCC."""

    weight: NotNegative = 1.0
    """Of the confusion."""
    temperature: Positive = 2.5
    """By which target logits are divided."""


def mcc_loss(logits: Tensor, temperature: float = 2.5) -> Tensor:
    """Mean share of other classes in a class's correlations; logits (B, C), value in [0, 1].

    With p the softened predictions and w weights that grow with certainty (no gradient), class j's
    correlation with k is sum_i w_i p_ij p_ik. Summed over k it is sum_i w_i p_ij, so what class j
    keeps for itself is the mean of p_ij under weights w_i p_ij. Normalising those in logarithms
    stays finite for a class that no sample of the batch has.
    """
    log_p = torch.log_softmax(logits / temperature, dim=1)
    p = log_p.exp()
    entropy = -(p * log_p).sum(1, keepdim=True).detach()
    share = torch.softmax(torch.log1p(torch.exp(-entropy)) + log_p, dim=0)
    return 1 - (share * p).sum(0).mean()


class Mcc(PenaltyMethod):
    Options = Options
    penalty_name = "confusion"
    paper = "Jin et al. 2020, arXiv:1912.03699"
    limitations = "a class is rare in the target: giving it to a frequent one confuses nothing."

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        logits = self.supervised.select_present(all_gather_batch(output_t.logits)).float()
        return mcc_loss(logits, self.options.temperature)


METHOD = Mcc
