"""EMA: source only, with an exponential moving average of the weights (Polyak & Juditsky 1992).

Averages along training rank checkpoints better and generalize better (Arpit et al. 2022,
arXiv:2110.10832). The training loop computes the average (`--ema`) for any method; this method is
plain training with it. A decay of 0.999 averages over about a thousand steps; use a smaller one for
shorter runs.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hf_wbc.adaptation.methods.source_only import SourceOnly


class Ema(SourceOnly):
    """Source-only training with averaged weights."""

    paper = "Polyak & Juditsky 1992; Arpit et al. 2022, arXiv:2110.10832"
    limitations = (
        "the weights still change quickly at the end of training, where the average lags behind."
    )
    config_overrides: ClassVar[Mapping[str, Any]] = {"ema": 0.999}


METHOD = Ema
