"""What most methods that see the target are: the supervised loss plus `weight` times a penalty."""

from typing import ClassVar

from torch import Tensor

from hf_wbc.adaptation._contract import Family, Method, Needs, Terms
from hf_wbc.data.batch import Batch
from hf_wbc.models import Output


class Penalised(Method):
    """Adds a penalty on the outputs of both sides; its options have a `weight`."""

    needs = Needs(target=True)
    family: ClassVar[Family] = "adaptation"
    penalty_name: ClassVar[str]
    """Among the terms."""

    def fit(self, batch: Batch) -> Terms:
        output_s, output_t = self.both(batch)
        supervised = self.classify(output_s, batch)
        penalty = self.penalty(output_s, output_t, batch)
        loss = supervised + self.options.weight * penalty
        terms = {"loss": loss, "supervised": supervised.detach()}
        return {**terms, self.penalty_name: penalty.detach()}

    def penalty(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        """What is minimised along with the supervised loss, ()."""
        raise NotImplementedError

    def weights(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor | None:
        """Importance of this process's source samples (B_s,); None where all are equal."""
        return None
