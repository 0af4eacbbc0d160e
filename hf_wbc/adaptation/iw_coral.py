"""Importance-weighted Deep CORAL: the covariance of a source that has the target's proportions.

Deep CORAL (Sun & Saenko 2016, arXiv:1607.01719) with the source's covariance under the class
weights of Tachet des Combes et al. 2020, as `_running_priors` estimates them.
"""

from dataclasses import dataclass

from hf_wbc.adaptation import coral as base
from hf_wbc.adaptation._contract import Needs, Terms
from hf_wbc.adaptation._gather import whole
from hf_wbc.adaptation._running_priors import Weighted, WeightOptions
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(WeightOptions, base.Options):
    """Of Deep CORAL, and of the weights."""


class IwCoral(Weighted):
    needs = Needs(target=True)
    Options = Options
    paper = "Tachet des Combes et al. 2020, arXiv:2003.04475 (weights); Sun & Saenko 2016"
    family = "adaptation"
    fails_when = "the target is full of a class that no source has, or is mostly misread at first."

    def fit(self, batch: Batch) -> Terms:
        output_s, output_t = self.both(batch)
        supervised = self.classify(output_s, batch)
        f_s, f_t = whole(output_s.features).float(), whole(output_t.features).float()
        distance = base.coral(f_s, f_t, whole(self.weights(output_s, output_t, batch)))
        loss = supervised + self.options.weight * distance
        return {"loss": loss, "supervised": supervised.detach(), "coral": distance.detach()}


METHOD = IwCoral
