"""The study behind docs/adaptation.md: Acevedo_20 to real cells from three other laboratories.

That page lists the commands for every part.

    hf-wbc study docs/real_cells.py --set data=build network=mobilenet_v2_1.0_224_imagenet \\
        --out runs
"""

from collections.abc import Mapping
from typing import Any

from hf_wbc.config import TrainConfig
from hf_wbc.study.protocols import sweep

TARGETS: Mapping[str, Mapping[str, Any]] = {
    "tecom_jiangxi": {
        "classes": ("eosinophil", "lymphocyte_typical", "monocyte", "neutrophil_segmented"),
        "merge": ("neutrophil_banded=neutrophil_segmented",),
        "allow_unscaled": True,
    },
    "bccd_crops": {
        "classes": (
            "basophil", "eosinophil", "lymphocyte_typical", "monocyte", "neutrophil_segmented"
        ),
        "merge": ("neutrophil_banded=neutrophil_segmented",),
        "allow_unscaled": True,
    },
    "matek_19": {},
}  # fmt: skip
"""How to score each target; the first two have no bands, no known scale, and few classes."""
ON_FEATURES = {
    "inputs": "features", "steps": 300, "batch_size": 64, "learning_rate": 1e-3, "eval_steps": 100
}  # fmt: skip
FINE_TUNED = {
    "image_size": 128, "steps": 100, "batch_size": 32, "learning_rate": 5e-4, "eval_steps": 50
}  # fmt: skip
FINE_TUNED_METHODS = ("source_only", "target_stats", "iw_dan", "mstn")


def study(
    data: str = "build",
    network: str = "mobilenet_v2_1.0_224_imagenet",
    sources: tuple[str, ...] = ("acevedo_20",),
    targets: tuple[str, ...] = tuple(TARGETS),
    fine_tuned: bool = False,
    methods: tuple[str, ...] = (),
    seeds: int = 3,
    **fields: Any,
) -> list[TrainConfig]:
    """Run all methods on frozen features, or a few that train on about 3,000 images."""
    how = {**(FINE_TUNED if fine_tuned else ON_FEATURES), **fields}
    directions = [
        TrainConfig(
            sources=tuple(f"{data}/{source}" for source in sources),
            target=(f"{data}/{target}",),
            oracle=True,
            **TARGETS[target],
            **how,
        )
        for target in targets
    ]
    chosen = methods or (FINE_TUNED_METHODS if fine_tuned else ())
    return sweep(directions, chosen, (network,), seeds)
