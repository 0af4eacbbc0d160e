"""Class prototypes on features that are standardized by each domain.

Each cell of the target gets the class with the nearest mean feature of the source, after the source
was standardized by its own mean and standard deviation and the target by its own. Of the computed
heads, this one has the fewest parameters to fit to the source laboratory alone.
"""

from torch import Tensor

from hf_wbc.adaptation.closed_form import LinearHead, StandardizedMethod
from hf_wbc.adaptation.methods.prototypes import prototype_head

__all__ = ["METHOD", "PrototypesStandardized"]


class PrototypesStandardized(StandardizedMethod):
    """The nearest class mean, standardized by the target; nothing is trained."""

    paper = "Snell et al. 2017, arXiv:1703.05175 (prototypes)"
    limitations = "class proportions differ, because the statistics depend on the mix of classes."

    def head(self, features: Tensor, labels: Tensor) -> LinearHead:
        """Return the head of standardized features (N, d) with labels (N,)."""
        return prototype_head(features, labels)


METHOD = PrototypesStandardized
