"""JAN: match features and predictions jointly (Long et al. 2017, arXiv:1605.06636).

As DAN, with the product of the features' kernel and one of the softmax outputs: what has to match
is which features go with which predictions, not features alone. All sources together are one side,
the target is the other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_wbc.adaptation._contract import Method, Needs, Terms
from hf_wbc.adaptation._gather import whole
from hf_wbc.adaptation._options import Checked, NotNegative
from hf_wbc.adaptation.dan import discrepancy, kernel, squared_distances
from hf_wbc.data.batch import Batch

SOFTMAX_SIGMA = 0.92
"""Fixed bandwidth of the kernel of softmax outputs; the authors' code has 2 sigma^2 = 1.68."""


@dataclass(frozen=True)
class Options(Checked):
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
    return discrepancy(kernel(torch.cat([f_s, f_t])) * of_softmax, len(f_s), w_s)


class Jan(Method):
    needs = Needs(target=True)
    Options = Options
    paper = "Long et al. 2017, arXiv:1605.06636"
    family = "adaptation"
    fails_when = "class proportions differ: predictions are to be as frequent as in the source."

    def fit(self, batch: Batch) -> Terms:
        output_s, output_t = self.both(batch)
        supervised = self.classify(output_s, batch)
        f_s, f_t = whole(output_s.features).float(), whole(output_t.features).float()
        p_s, p_t = (whole(o.logits).float().softmax(1) for o in (output_s, output_t))
        distance = joint_mmd(f_s, p_s, f_t, p_t)
        loss = supervised + self.options.weight * distance
        return {"loss": loss, "supervised": supervised.detach(), "joint_mmd": distance.detach()}


METHOD = Jan
