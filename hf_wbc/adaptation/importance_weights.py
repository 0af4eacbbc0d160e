"""Penalties with source samples weighted to match the target's class proportions."""

from dataclasses import dataclass

from torch import Tensor

from hf_wbc.adaptation.method import AtLeastOne, Fraction, PenaltyMethod, TrainingInfo
from hf_wbc.adaptation.target_priors import PriorOptions, RunningPriors
from hf_wbc.data.batch import Batch
from hf_wbc.models import Output


@dataclass(frozen=True)
class WeightOptions(PriorOptions):
    """Options of the source sample weights."""

    max_weight: AtLeastOne = 10.0
    """Maximum weight of a source sample, before weights are scaled to mean 1."""
    warm_up: Fraction = 0.2
    """Fraction of the steps in which the weights change from 1 to their estimates."""


class ImportanceWeightedMethod(PenaltyMethod):
    """Base class of methods whose penalty uses sample weights; options include `WeightOptions`."""

    limitations = (
        "no source contains a frequent target class, or most early target predictions are wrong."
    )

    def setup(self, info: TrainingInfo) -> None:
        """Add the running estimate of the target's priors."""
        super().setup(info)
        self.priors = RunningPriors(info.present, self.options.momentum, self.options.pull)

    def weights(self, output_s: Output, output_t: Output, batch: Batch) -> Tensor:
        """Return the weights (B_s,) of this process's source samples, with mean 1 over the source.

        The weights come from previous batches; a batch that influenced its own weights would bias
        them.
        """
        labels = batch.source.labels
        w = self.priors.weights(labels, self.options.max_weight)
        self.priors.update(output_s.logits, labels, output_t.logits)
        warm = min(1.0, batch.progress / self.options.warm_up) if self.options.warm_up else 1.0
        return 1 + warm * (w - 1)
