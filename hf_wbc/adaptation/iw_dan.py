"""Importance-weighted DAN: the discrepancy to a source that has the target's proportions.

DAN (Long et al. 2015, arXiv:1502.02791) with the kernel means of the source under the class weights
of Tachet des Combes et al. 2020, as `_running_priors` estimates them.
"""

from dataclasses import dataclass

from hf_wbc.adaptation import dan as base
from hf_wbc.adaptation._contract import Needs, Terms
from hf_wbc.adaptation._gather import whole
from hf_wbc.adaptation._running_priors import Weighted, WeightOptions
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(WeightOptions, base.Options):
    """Of DAN, and of the weights."""


class IwDan(Weighted):
    needs = Needs(target=True)
    Options = Options
    paper = "Tachet des Combes et al. 2020, arXiv:2003.04475 (weights); Long et al. 2015"
    family = "adaptation"
    fails_when = "the target is full of a class that no source has, or is mostly misread at first."

    def fit(self, batch: Batch) -> Terms:
        output_s, output_t = self.both(batch)
        supervised = self.classify(output_s, batch)
        f_s, f_t = whole(output_s.features).float(), whole(output_t.features).float()
        distance = base.mmd(f_s, f_t, whole(self.weights(output_s, output_t, batch)))
        loss = supervised + self.options.weight * distance
        return {"loss": loss, "supervised": supervised.detach(), "mmd": distance.detach()}


METHOD = IwDan
