"""Importance-weighted Deep CORAL: the covariance of a source that has the target's proportions.

Deep CORAL (Sun & Saenko 2016, arXiv:1607.01719) with the source's covariance under the class
weights of Tachet des Combes et al. 2020, as `_running_priors` estimates them.
"""

from dataclasses import dataclass

from hf_wbc.adaptation.importance_weights import ImportanceWeightedMethod, WeightOptions
from hf_wbc.adaptation.methods import coral as base


@dataclass(frozen=True)
class Options(WeightOptions, base.Options):
    """Of Deep CORAL, and of the weights."""


class IwCoral(ImportanceWeightedMethod, base.Coral):
    Options = Options
    limitations = (
        "proportions are the trouble: covariances follow them so little that the weights gained "
        "nothing measurable over coral on toy data."
    )
    paper = "Tachet des Combes et al. 2020, arXiv:2003.04475 (weights); Sun & Saenko 2016"


METHOD = IwCoral
