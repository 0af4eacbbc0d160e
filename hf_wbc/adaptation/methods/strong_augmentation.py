"""Strong augmentation: source-only training with the robust augmentation, whatever was chosen.

Many stacked augmentations stand in for unseen laboratories (Zhang et al. 2019, arXiv:1906.03347).
Since the robust augmentation became the default, this method differs from `source_only` only when
`--augmentation light` or `none` is given; it keeps the name for studies that compare both.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar

from hf_wbc.adaptation.method import Needs
from hf_wbc.adaptation.methods.source_only import SourceOnly
from hf_wbc.config import AUGMENTATIONS


class StrongAugmentation(SourceOnly):
    """Source-only training with the robust augmentation."""

    needs = Needs(images=True)
    paper = "Zhang et al. 2019, arXiv:1906.03347"
    limitations = "classes differ in the hue or size that is jittered, or training is short."
    config_overrides: ClassVar[Mapping[str, Any]] = {
        "augmentation": {
            name: value
            for name, value in asdict(AUGMENTATIONS["robust"]).items()
            if name not in ("stain", "target_shift", "target_style")
        }
    }


METHOD = StrongAugmentation
