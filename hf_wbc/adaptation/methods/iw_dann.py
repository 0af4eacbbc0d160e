"""IWDAN: DANN against a source that has the target's proportions (Tachet des Combes et al. 2020).

DANN (Ganin et al. 2016, arXiv:1505.07818) with the source's part of the discriminator's loss under
the class weights of arXiv:2003.04475, as `_running_priors` estimates them.
"""

from dataclasses import dataclass

from hf_wbc.adaptation.importance_weights import ImportanceWeightedMethod, WeightOptions
from hf_wbc.adaptation.methods import dann as base


@dataclass(frozen=True)
class Options(WeightOptions, base.Options):
    """Of DANN, and of the weights."""


class IwDann(ImportanceWeightedMethod, base.Dann):
    Options = Options
    paper = "Tachet des Combes et al. 2020, arXiv:2003.04475 (IWDAN); Ganin et al. 2016"


METHOD = IwDann
