"""Source only: cross-entropy on the labelled sources, optionally adjusted for their class priors.

With tau > 0 the logits are shifted by tau log prior of the sample's own domain while training
(Menon et al. 2021, arXiv:2007.07314, eq. 10), so that rare classes keep a wide margin. The shift
assumes that samples are drawn as they come: use it with --balance none.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import cross_entropy

from hf_wbc.adaptation._contract import Method, Setting
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options:
    tau: float = 0.0
    """Strength of the logit adjustment; 0 is plain cross-entropy, 1 the paper's."""

    def __post_init__(self) -> None:
        if not self.tau >= 0:
            raise ValueError(f"tau is {self.tau}; it must not be negative")


class SourceOnly(Method):
    Options = Options
    paper = "Menon et al. 2021, arXiv:2007.07314"
    fails_when = "the target's cells look unlike every source's, which is the rule."

    log_prior: Tensor

    def setup(self, setting: Setting) -> None:
        """Smoothed log priors of each source domain (domains, classes)."""
        counts = setting.class_counts.double() + 1
        self.register_buffer("log_prior", (counts / counts.sum(1, keepdim=True)).log().float())

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Mean cross-entropy of the batch."""
        logits = self.classifier(batch.source.inputs).logits.float()
        if self.options.tau:
            logits = logits + self.options.tau * self.log_prior[batch.source.domains]
        return {"loss": cross_entropy(logits, batch.source.labels)}


METHOD = SourceOnly
