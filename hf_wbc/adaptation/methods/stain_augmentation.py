"""Stain augmentation: source only, on cells that stood longer or shorter in each dye.

Tellez et al. 2019, arXiv:1902.06543, who jitter dyes in optical density by .05 (light) or .2
(strong). Ours is .1, on top of the defaults: it covers backgrounds from grey to cream, while .2
makes them green and yellow, and they are most of a smear's image, unlike of tissue's.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hf_wbc.adaptation.method import Needs
from hf_wbc.adaptation.methods.source_only import SourceOnly


class StainAugmentation(SourceOnly):
    needs = Needs(images=True)
    paper = "Tellez et al. 2019, arXiv:1902.06543"
    limitations = "laboratories differ by camera, sharpness or cells rather than by dyes."
    config_overrides: ClassVar[Mapping[str, Any]] = {"augmentation": {"stain": 0.1}}


METHOD = StainAugmentation
