"""BNM: confident and diverse target predictions (Cui et al. 2020, arXiv:2003.12237).

The nuclear norm of a batch's class probabilities is large when each row is confident (large
Frobenius norm) and when the rows span many classes (high rank). BNM maximizes it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_wbc.adaptation.losses import all_gather_batch
from hf_wbc.adaptation.method import LossTerms, Method, MethodOptions, Needs, NotNegative
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(MethodOptions):
    """Hyper-parameters of BNM."""

    weight: NotNegative = 1.0
    """Weight of the nuclear norm."""


def nuclear_norm(p: Tensor) -> Tensor:
    """Return the nuclear norm of class probabilities `p` (B, C), divided by B.

    Singular values that are zero to rounding are excluded. They add nothing to the value, but their
    singular vectors, and with them the gradient, are arbitrary: identical rows would be pushed
    apart in random directions. The result is the subgradient of least norm.
    """
    values = torch.linalg.svdvals(p)
    floor = torch.finfo(p.dtype).eps * max(p.shape) * values.detach().amax()
    total: Tensor = (values * (values > floor)).sum()
    return total / len(p)


def bnm_loss(p: Tensor) -> Tensor:
    """Return the negative nuclear norm over B of class probabilities (Cui et al. 2020).

    Args:
        p: Softmax outputs on unlabeled target samples (B, C).

    Returns:
        A negative scalar; low for confident and diverse predictions.
    """
    return -nuclear_norm(p)


class Bnm(Method):
    """Batch nuclear-norm maximization on target predictions."""

    needs = Needs(target=True)
    Options = Options
    paper = "Cui et al. 2020, arXiv:2003.12237"
    family = "adaptation"
    limitations = "the target is imbalanced: diversity assigns too many cells to its rare classes."

    def fit(self, batch: Batch) -> LossTerms:
        """Return the supervised loss plus the negative nuclear norm."""
        output_s, output_t = self.forward_source_target(batch)
        supervised = self.supervised_loss(output_s, batch)
        penalty = bnm_loss(all_gather_batch(output_t.logits).float().softmax(1))
        loss = supervised + self.options.weight * penalty
        return {"loss": loss, "supervised": supervised.detach(), "nuclear_norm": -penalty.detach()}


METHOD = Bnm
