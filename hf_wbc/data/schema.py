"""The one row schema of every published dataset, in both configs and all splits."""

from typing import TYPE_CHECKING

from hf_wbc.taxonomy import NAMES

if TYPE_CHECKING:
    import datasets

CONFIGS = ("original", "cropped")
DEFAULT_CONFIG = "cropped"
SPLITS = ("train", "validation", "test")
CROP_UM = 25.0


def row_features() -> "datasets.Features":
    """The columns: image bytes, label (-1 is unlabelled), and where the cell comes from.

    `source_label` is the archive's own code, `image_id` its own file name, `group` the patient,
    slide or session where known, `um_per_px` null only where the cell fills the frame, and
    `pixel_sha256` the digest of the decoded RGB pixels (H, W, 3).
    """
    from datasets import ClassLabel, Features, Image, Value

    return Features(
        {
            "image": Image(),
            "label": ClassLabel(names=list(NAMES)),
            "source_label": Value("string"),
            "domain": Value("string"),
            "image_id": Value("string"),
            "group": Value("string"),
            "um_per_px": Value("float64"),
            "pixel_sha256": Value("string"),
        }
    )
