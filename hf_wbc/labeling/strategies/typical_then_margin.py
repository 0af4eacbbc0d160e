"""Typical cells first, then cells between two classes: the default.

With very few labels, typical cells teach more than uncertain ones, because the model's uncertainty
is not to be trusted yet; later it is the other way round (Hacohen et al. 2022, arXiv:2202.02794).
docs/labeling.md has the benchmark that chose it.
"""

import numpy as np

from hf_wbc.labeling.strategies import Ids, PoolView, margin, typiclust

__all__ = ["NUM_TYPICAL", "choose"]

NUM_TYPICAL = 20
"""Labels from which uncertain cells are chosen."""


def choose(view: PoolView, num: int, rng: np.random.Generator) -> Ids:
    """Choose by typicality until there are 20 labels, and by margin from then on."""
    if len(view.labeled) < NUM_TYPICAL:
        return typiclust.choose(view, num, rng)
    return margin.choose(view, num, rng)
