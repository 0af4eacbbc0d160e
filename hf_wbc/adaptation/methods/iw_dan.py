"""Importance-weighted DAN: match the target with a reweighted source.

DAN (Long et al. 2015, arXiv:1502.02791) with the kernel means of the source
reweighted to the target's class proportions. The class weights of Tachet des Combes et al. 2020
(arXiv:2003.04475) are estimated by `hf_wbc.adaptation.target_priors`.
"""

from dataclasses import dataclass

from hf_wbc.adaptation.importance_weights import ImportanceWeightedMethod, WeightOptions
from hf_wbc.adaptation.methods import dan as base


@dataclass(frozen=True)
class Options(WeightOptions, base.Options):
    """Hyper-parameters of DAN and of the importance weights."""


class IwDan(ImportanceWeightedMethod, base.Dan):
    """DAN with importance-weighted source samples."""

    Options = Options
    paper = "Tachet des Combes et al. 2020, arXiv:2003.04475 (weights); Long et al. 2015"


METHOD = IwDan
