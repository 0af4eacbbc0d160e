"""Squares through an engine, and features through the head."""

import numpy as np
import torch
from numpy.typing import NDArray

from hf_wbc.data.preprocessing import Treatment, treat
from hf_wbc.engine.engines.contract import Engine
from hf_wbc.engine.forward import FLIPS
from hf_wbc.models import Classifier

Floats = NDArray[np.float32]


def run_engine(
    engine: Engine, squares: NDArray[np.uint8], how: Treatment, device: torch.device
) -> Floats:
    """Penultimate features (N, d) of squares (N, S, S, 3).

    With the treatment's `flips` they are means over the mirrored images.
    """
    parts = []
    for start in range(0, len(squares), engine.batch_size):
        batch = torch.from_numpy(squares[start : start + engine.batch_size])
        inputs = treat(batch.to(device), how)
        views = [inputs.flip(axes) for axes in (FLIPS if how.flips else FLIPS[:1])]
        found = torch.stack([engine.features(view) for view in views]).mean(0)
        parts.append(found.cpu().numpy())
    return np.concatenate(parts)


@torch.inference_mode()
def apply_head(classifier: Classifier, features: Floats) -> Floats:
    """Logits (N, 11) of features (N, d): linear, so that means over views may come first."""
    head = classifier.head
    logits: Floats = head(torch.from_numpy(features).to(head.weight.device)).cpu().numpy()
    return logits
