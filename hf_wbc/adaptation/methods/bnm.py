"""BNM: target predictions that are sure and diverse, by their nuclear norm (Cui et al. 2020,
arXiv:2003.12237).

The nuclear norm of a batch's probabilities grows when each row is sure (Frobenius norm) and when
the rows span many classes (rank).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_wbc.adaptation.losses import all_gather_batch
from hf_wbc.adaptation.method import LossTerms, Method, MethodOptions, Needs, NotNegative
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(MethodOptions):
    """Of BNM."""

    weight: NotNegative = 1.0
    """Of the nuclear norm."""


def nuclear_norm(p: Tensor) -> Tensor:
    """Sum of the singular values of probabilities (B, C), over B.

    Singular values that are zero to rounding are left out. They add nothing to the value, but
    their singular vectors, and with them the gradient, would be arbitrary: identical rows would be
    pushed apart in random directions. What is left is the subgradient of least norm.
    """
    values = torch.linalg.svdvals(p)
    floor = torch.finfo(p.dtype).eps * max(p.shape) * values.detach().amax()
    total: Tensor = (values * (values > floor)).sum()
    return total / len(p)


class Bnm(Method):
    needs = Needs(target=True)
    Options = Options
    paper = "Cui et al. 2020, arXiv:2003.12237"
    family = "adaptation"
    limitations = "the target is imbalanced: diversity gives its rare classes too many cells."

    def fit(self, batch: Batch) -> LossTerms:
        output_s, output_t = self.forward_source_target(batch)
        supervised = self.supervised_loss(output_s, batch)
        norm = nuclear_norm(all_gather_batch(output_t.logits).float().softmax(1))
        loss = supervised - self.options.weight * norm
        return {"loss": loss, "supervised": supervised.detach(), "nuclear_norm": norm.detach()}


METHOD = Bnm
