"""Predictions with given probabilities, for tests of what the page makes of them."""

import numpy as np

from hf_wbc.inference.cell_prediction import CellPrediction, by_lineage
from hf_wbc.taxonomy import NUM_CLASSES, class_id


def prediction(**shares: float) -> CellPrediction:
    """An answer of these probabilities."""
    p = np.zeros(NUM_CLASSES)
    for name, share in shares.items():
        p[class_id(name)] = share
    return CellPrediction(
        probabilities=p,
        label=int(p.argmax()),
        conformal_set=(),
        rejected=False,
        lineage=by_lineage(p),
        um_per_px=0.1,
        scale_estimate=None,
        box=(0, 0, 250, 250),
        warnings=(),
        features=np.zeros(4, np.float32),
        logits=np.zeros(NUM_CLASSES, np.float32),
    )
