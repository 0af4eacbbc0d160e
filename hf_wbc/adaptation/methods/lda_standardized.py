"""Linear discriminant analysis on features that are standardized by each domain.

The source's features are standardized by their own mean and standard deviation, the target's by
the target's (or by a compromise, see `StandardizedOptions`). What another scanner adds to a
feature, or multiplies it by, is thereby removed. The saved model is for this target.
"""

from torch import Tensor

from hf_wbc.adaptation.closed_form import LinearHead, StandardizedMethod
from hf_wbc.adaptation.methods.lda import lda_head

__all__ = ["METHOD", "LdaStandardized"]


class LdaStandardized(StandardizedMethod):
    """Linear discriminant analysis, standardized by the target; nothing is trained."""

    paper = "Johnson et al. 2007, doi 10.1093/biostatistics/kxj037 (ComBat)"
    limitations = "class proportions differ, because the statistics depend on the mix of classes."

    def head(self, features: Tensor, labels: Tensor) -> LinearHead:
        """Return the head of standardized features (N, d) with labels (N,)."""
        return lda_head(features, labels)


METHOD = LdaStandardized
