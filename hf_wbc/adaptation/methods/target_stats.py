"""Target statistics: source only, on images in the unlabelled target's colours.

The recipe that won the challenge of 2022 on these cells: hue and mean taken from the target, heavy
augmentation, balanced classes, flips at test time, and no loss of adaptation. Here the hue goes
with the mean colour, and both along the linear map of colours that gives the target's mean and
covariance (Pitié & Kokaram 2007, eq. 5). A target_shift of 1 is a random part of that way, anything
from the source's own colours to the target's, half on average: the target's class proportions are
in its statistics too, so that always going all of it would be trusting them too far.

Heavy are the changes of the frame, at any angle and twice as far as by default, and the dyes'.
Brightness, contrast, saturation and hue vary as by default: the target says what they should be,
and doubling them would drown it.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hf_wbc.adaptation.method import Method, Needs


class TargetStats(Method):
    needs = Needs(images=True)
    paper = "Pitié & Kokaram 2007 (the map of colours)"
    family = "adaptation"
    limitations = "the target's mean colour is that of other classes, not of other dyes."
    config_overrides: ClassVar[Mapping[str, Any]] = {
        "balance": "class_domain",
        "test_time_flips": True,
        "augmentation": {
            "target_shift": 1.0,
            "rotation_deg": 45.0,
            "shift_um": 2.0,
            "scale_um": 2.0,
            "stain": 0.05,
        },
    }

    @classmethod
    def sees_target(cls) -> bool:
        """By its colours alone, which the stream of batches measures."""
        return True


METHOD = TargetStats
