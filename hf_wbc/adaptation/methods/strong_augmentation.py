"""Strong augmentation: source only, with twice the default augmentation.

Many stacked augmentations stand in for unseen laboratories (Zhang et al. 2019, arXiv:1906.03347).
Every default range is doubled. Together with rotations by 90 degrees, 45 degrees in either
direction cover any angle; crops are off by up to 2 um and 8 %, brightness, contrast and saturation
by 40 %, and hues by a tenth of the circle. Nuclei stay blue to purple; a wider range would turn one
dye into another.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hf_wbc.adaptation.method import Needs
from hf_wbc.adaptation.methods.source_only import SourceOnly


class StrongAugmentation(SourceOnly):
    """Source-only training with strong augmentation."""

    needs = Needs(images=True)
    paper = "Zhang et al. 2019, arXiv:1906.03347"
    limitations = "classes differ in the hue or size that is jittered, or training is short."
    config_overrides: ClassVar[Mapping[str, Any]] = {
        "augmentation": {
            "rotation_deg": 45.0,
            "shift_um": 2.0,
            "scale_um": 2.0,
            "brightness": 0.4,
            "contrast": 0.4,
            "saturation": 0.4,
            "hue": 0.1,
        }
    }


METHOD = StrongAugmentation
