"""IWDAN: DANN with a reweighted source (Tachet des Combes et al. 2020, arXiv:2003.04475).

DANN (Ganin et al. 2016, arXiv:1505.07818) with the discriminator's loss on the source
reweighted to the target's class proportions. The class weights of Tachet des Combes et al. 2020
(arXiv:2003.04475) are estimated by `hf_wbc.adaptation.target_priors`.
"""

from dataclasses import dataclass

from hf_wbc.adaptation.importance_weights import ImportanceWeightedMethod, WeightOptions
from hf_wbc.adaptation.methods import dann as base


@dataclass(frozen=True)
class Options(WeightOptions, base.Options):
    """Hyper-parameters of DANN and of the importance weights."""


class IwDann(ImportanceWeightedMethod, base.Dann):
    """DANN with importance-weighted source samples."""

    Options = Options
    paper = "Tachet des Combes et al. 2020, arXiv:2003.04475 (IWDAN); Ganin et al. 2016"


METHOD = IwDann
