"""Strong augmentation: source only, on images that are changed twice as far.

Zhang et al. 2019, arXiv:1906.03347: many changes on top of each other stand in for the laboratories
that nobody has seen. Every default range is doubled, and with quarter turns 45 degrees either way
are any angle: frames are off by up to 2 um and 8 %, brightness, contrast and saturation by 40 %,
hues by a tenth of the circle. Nuclei stay blue to purple; more would turn a dye into another.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hf_wbc.adaptation.method import Needs
from hf_wbc.adaptation.methods.source_only import SourceOnly


class StrongAugmentation(SourceOnly):
    needs = Needs(images=True)
    paper = "Zhang et al. 2019, arXiv:1906.03347"
    limitations = "classes differ by the very hue or size that is jittered, or training is short."
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
