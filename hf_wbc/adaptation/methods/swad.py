"""SWAD: source only, with weights averaged over a flat minimum (Cha et al. 2021, arXiv:2102.08604).

Flat minima transfer better to other domains. The training loop computes the average (`--swad`) for
any method; this method is plain training with it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hf_wbc.adaptation.methods.source_only import SourceOnly


class Swad(SourceOnly):
    """Source-only training with SWAD weight averaging."""

    paper = "Cha et al. 2021, arXiv:2102.08604"
    limitations = "there are too few evaluations to see where the flat region begins and ends."
    config_overrides: ClassVar[Mapping[str, Any]] = {"swad": True, "selection": "last"}


METHOD = Swad
