"""IWDAN: DANN against a source that has the target's proportions (Tachet des Combes et al. 2020).

DANN (Ganin et al. 2016, arXiv:1505.07818) with the source's part of the discriminator's loss under
the class weights of arXiv:2003.04475, as `_running_priors` estimates them.
"""

from dataclasses import dataclass

from hf_wbc.adaptation import dann as base
from hf_wbc.adaptation._contract import Needs, Terms
from hf_wbc.adaptation._reversal import reversal_strength
from hf_wbc.adaptation._running_priors import Weighted, WeightOptions
from hf_wbc.data.batch import Batch


@dataclass(frozen=True)
class Options(WeightOptions, base.Options):
    """Of DANN, and of the weights."""


class IwDann(Weighted, base.Dann):
    needs = Needs(target=True)
    Options = Options
    paper = "Tachet des Combes et al. 2020, arXiv:2003.04475 (IWDAN); Ganin et al. 2016"
    family = "adaptation"
    fails_when = "the target is full of a class that no source has, or is mostly misread at first."

    def fit(self, batch: Batch) -> Terms:
        output_s, output_t = self.both(batch)
        supervised = self.classify(output_s, batch)
        strength = reversal_strength(batch.progress, self.options.gamma)
        z_s, z_t = base.judge(self.discriminator, output_s.features, output_t.features, strength)
        confusion = base.domain_loss(z_s, z_t, self.weights(output_s, output_t, batch))
        loss = supervised + self.options.weight * confusion
        return {"loss": loss, "supervised": supervised.detach(), "domain": confusion.detach()}


METHOD = IwDann
