"""Stain augmentation: source only, with random dye intensities.

Tellez et al. 2019 (arXiv:1902.06543) jitter the dyes' optical density by 0.05 (light) or 0.2
(strong). Here it is 0.1, on top of the default augmentation. This covers backgrounds from gray to
cream; 0.2 turns them green and yellow, and unlike in tissue they make up most of a smear image.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from hf_wbc.adaptation.method import Needs
from hf_wbc.adaptation.methods.source_only import SourceOnly


class StainAugmentation(SourceOnly):
    """Source-only training with stain augmentation."""

    needs = Needs(images=True)
    paper = "Tellez et al. 2019, arXiv:1902.06543"
    limitations = "laboratories differ in camera, sharpness or cells rather than in dyes."
    config_overrides: ClassVar[Mapping[str, Any]] = {"augmentation": {"stain": 0.1}}


METHOD = StainAugmentation
