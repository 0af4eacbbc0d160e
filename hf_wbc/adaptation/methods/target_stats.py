"""Target statistics: source only, on images in the colors of the unlabeled target.

The recipe that won the 2022 challenge on these cells: hue and mean from the target, heavy
augmentation, balanced classes, test-time flips, and no adaptation loss. Here hue and mean color are
transferred together, by the linear color map that gives the target's mean and covariance (Pitié &
Kokaram 2007). With a `target_shift` of 1, each image moves a random fraction of the way from
the source's colors to the target's, half on average: the statistics also depend on the target's
class proportions, so always moving all the way would trust them too much.

Geometric augmentation (any angle, twice the light range) and stain augmentation are strong. All
other color changes are those of the light augmentation: the target defines the colors, and wider
ranges would mask it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hf_wbc.adaptation.method import Method, Needs
from hf_wbc.config import AUGMENTATIONS

_LIGHT_COLORS = {
    name: getattr(AUGMENTATIONS["light"], name)
    for name in ("brightness", "contrast", "saturation", "hue", "channel_gain", "gamma")
}


class TargetStats(Method):
    """Source-only training on images in the target's colors."""

    needs = Needs(images=True)
    paper = "Pitié & Kokaram 2007 (linear color transfer)"
    family = "adaptation"
    limitations = "the target's mean color differs because of its classes rather than its dyes."
    config_overrides: ClassVar[Mapping[str, Any]] = {
        "balance": "class_domain",
        "test_time_flips": True,
        "augmentation": {
            **_LIGHT_COLORS,
            "target_shift": 1.0,
            "rotation_deg": 45.0,
            "shift_um": 2.0,
            "scale_um": 2.0,
            "stain": 0.05,
        },
    }

    @classmethod
    def sees_target(cls) -> bool:
        """Return True: the data loader measures the target's colors."""
        return True


METHOD = TargetStats
