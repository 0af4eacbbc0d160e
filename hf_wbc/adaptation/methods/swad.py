"""SWAD: source only, with the mean of all weights in a valley of the sources' validation loss.

Cha et al. 2021, arXiv:2102.08604: flat minima carry over to other domains. The averaging is the
loop's own (--swad) and goes with any method; this is it with plain training.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hf_wbc.adaptation.methods.source_only import SourceOnly


class Swad(SourceOnly):
    paper = "Cha et al. 2021, arXiv:2102.08604"
    limitations = "evaluations are too few to see where the valley of the loss begins and ends."
    config_overrides: ClassVar[Mapping[str, Any]] = {"swad": True, "selection": "last"}


METHOD = Swad
