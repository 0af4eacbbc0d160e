"""The loss on labels that every method shares: cross-entropy, adjusted for priors and lineage.

Logit adjustment (Menon et al. 2021, arXiv:2007.07314, eq. 10): while training, tau log prior of the
sample's own domain is added to the logits, so that rare classes keep a wide margin. It assumes that
samples are drawn as they come: use it with --balance none.

Lineage (soft labels of Bertinetto et al. 2020, arXiv:1912.09393, eq. 5): the label's mass is spread
over the classes as softmax(-distance / softness), where one step of maturation is a distance of 1,
another class of the lineage 2, another lineage 3. To take a band for a segmented neutrophil then
costs less than to take it for a lymphocyte.
"""

import torch
from torch import Tensor, nn

from hf_wbc.taxonomy import NUM_CLASSES, relation


class Supervised(nn.Module):
    """Cross-entropy of each sample; see above."""

    log_prior: Tensor
    """Of each source domain and class (domains, C), smoothed by one image."""
    soft_labels: Tensor
    """Target distribution of each class (C, C)."""
    open_classes: Tensor
    """Ids of the classes that any source has (K,)."""

    def __init__(
        self, class_counts: Tensor, logit_adjustment: float = 0.0, lineage: float = 0.0
    ) -> None:
        """`class_counts` (domains, C); `logit_adjustment` is tau, `lineage` the softness."""
        super().__init__()
        counts = class_counts.double() + 1
        self.tau = logit_adjustment
        self.lineage = lineage
        log_prior = (counts / counts.sum(1, keepdim=True)).log().float()
        self.register_buffer("log_prior", log_prior, persistent=False)
        present = class_counts.sum(0) > 0
        self.register_buffer("soft_labels", soft_labels(present, lineage), persistent=False)
        self.register_buffer("open_classes", present.nonzero().squeeze(1), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor, domains: Tensor) -> Tensor:
        """Logits (B, C), labels and domains (B,) to losses (B,), in fp32."""
        logits = logits.float()
        if self.tau:
            logits = logits + self.tau * self.log_prior[domains]
        if not self.lineage:
            return nn.functional.cross_entropy(logits, labels, reduction="none")
        return nn.functional.cross_entropy(logits, self.soft_labels[labels], reduction="none")

    @property
    def num_open(self) -> int:
        """Of the classes that any source has, K."""
        return len(self.open_classes)

    def open(self, logits: Tensor) -> Tensor:
        """Logits (B, C) of the classes that any source has (B, K).

        The others are never predicted, and must not count where a loss is a mean over the classes,
        or knows how many there are.
        """
        return logits.index_select(1, self.open_classes)


def soft_labels(present: Tensor, softness: float) -> Tensor:
    """Rows of target distributions (C, C), float32; a softness of 0 is one-hot.

    No mass is on a class that is not `present` (C,) bool: it can never be predicted.
    """
    if not softness:
        return torch.eye(len(present))
    assert len(present) == NUM_CLASSES
    ids = range(NUM_CLASSES)
    distance = torch.tensor([[float(relation(i, j)) for j in ids] for i in ids])
    return torch.softmax((-distance / softness).masked_fill(~present, -torch.inf), dim=1)
