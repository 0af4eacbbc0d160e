"""EMA: source only, with an exponential moving average of the weights (Polyak & Juditsky 1992).

Arpit et al. 2022, arXiv:2110.10832: averages along training rank checkpoints better and carry over
better. The averaging is the loop's own (--ema) and goes with any method; this is it with plain
training. A decay of .999 looks back on some thousand steps: in shorter runs take a smaller one.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hf_wbc.adaptation.methods.source_only import SourceOnly


class Ema(SourceOnly):
    paper = "Polyak & Juditsky 1992; Arpit et al. 2022, arXiv:2110.10832"
    limitations = "the weights still move fast at the end, which the average lags behind."
    config_overrides: ClassVar[Mapping[str, Any]] = {"ema": 0.999}


METHOD = Ema
