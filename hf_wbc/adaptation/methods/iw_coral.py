"""Importance-weighted Deep CORAL: match the target with a reweighted source.

Deep CORAL (Sun & Saenko 2016, arXiv:1607.01719) with the covariance of the source
reweighted to the target's class proportions. The class weights of Tachet des Combes et al. 2020
(arXiv:2003.04475) are estimated by `hf_wbc.adaptation.target_priors`.
"""

from dataclasses import dataclass

from hf_wbc.adaptation.importance_weights import ImportanceWeightedMethod, WeightOptions
from hf_wbc.adaptation.methods import coral as base


@dataclass(frozen=True)
class Options(WeightOptions, base.Options):
    """Hyper-parameters of Deep CORAL and of the importance weights."""


class IwCoral(ImportanceWeightedMethod, base.Coral):
    """Deep CORAL with importance-weighted source samples."""

    Options = Options
    limitations = (
        "class proportions are the main difference: covariances depend on them so little that the "
        "weights gained nothing measurable over coral on toy data."
    )
    paper = "Tachet des Combes et al. 2020, arXiv:2003.04475 (weights); Sun & Saenko 2016"


METHOD = IwCoral
