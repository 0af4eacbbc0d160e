"""Importance-weighted DAN: the discrepancy to a source that has the target's proportions.

DAN (Long et al. 2015, arXiv:1502.02791) with the kernel means of the source under the class weights
of Tachet des Combes et al. 2020, as `_running_priors` estimates them.
"""

from dataclasses import dataclass

from hf_wbc.adaptation.importance_weights import ImportanceWeightedMethod, WeightOptions
from hf_wbc.adaptation.methods import dan as base


@dataclass(frozen=True)
class Options(WeightOptions, base.Options):
    """Of DAN, and of the weights."""


class IwDan(ImportanceWeightedMethod, base.Dan):
    Options = Options
    paper = "Tachet des Combes et al. 2020, arXiv:2003.04475 (weights); Long et al. 2015"


METHOD = IwDan
