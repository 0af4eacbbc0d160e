"""A laboratory as embeddings: clusters that have moved since the source head was trained."""

import numpy as np

from hf_wbc.evaluation.calibration import NEVER
from hf_wbc.labeling.few_shot import LinearFewShotHead
from hf_wbc.labeling.pool import Floats, Ids, Pool
from hf_wbc.taxonomy import NAMES, NUM_CLASSES

WIDTH = 24
EOSINOPHIL, MYELOBLAST, SEGMENTED, MONOCYTE, LYMPHOCYTE = (
    NAMES.index(name)
    for name in (
        "eosinophil", "myeloblast", "neutrophil_segmented", "monocyte", "lymphocyte_typical",
    )
)  # fmt: skip
SHARES = {EOSINOPHIL: 0.1, SEGMENTED: 0.5, MONOCYTE: 0.2, LYMPHOCYTE: 0.2}


def centers(seed: int = 0) -> Floats:
    """Return the mean feature (11, 24) of each class at home."""
    found: Floats = np.random.default_rng(seed).normal(size=(NUM_CLASSES, WIDTH)) * 2
    return found


def source_head() -> LinearFewShotHead:
    """Return the best head at home, which does not know myeloblasts."""
    weight, bias = centers(), -0.5 * (centers() ** 2).sum(1)
    weight[MYELOBLAST], bias[MYELOBLAST] = 0, NEVER
    return LinearFewShotHead(weight, bias)


def laboratory(
    num: int = 240,
    seed: int = 0,
    shift: float = 0.9,
    shares: dict[int, float] = SHARES,
    name: str = "away",
) -> Pool:
    """Return a pool of labeled cells whose classes have moved by `shift` towards each other."""
    rng = np.random.default_rng((seed, 1))
    labels: Ids = rng.choice(list(shares), num, p=list(shares.values())).astype(np.int64)
    moved = centers() + shift * np.roll(centers(), 1, axis=0)
    features = (moved[labels] + rng.normal(size=(num, WIDTH))).astype(np.float32)
    return Pool(
        name=name,
        image_ids=tuple(f"{name}/{number:04}.png" for number in range(num)),
        features=features,
        logits=source_head().logits(features.astype(np.float64)).astype(np.float32),
        labels=labels,
        appearance=rng.normal(size=(num, 7)) + np.arange(7),
    )
