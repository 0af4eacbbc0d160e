"""The row schema of all published datasets, in both configs and all splits."""

from typing import TYPE_CHECKING

from hf_wbc.taxonomy import NAMES

if TYPE_CHECKING:
    import datasets

CONFIGS = ("original", "cropped")
"""Configs of a dataset: original frames, and frames cropped to 25 um."""
DEFAULT_CONFIG = "cropped"
SPLITS = ("train", "validation", "test")
"""Splits of a dataset."""
PROVENANCE = "provenance.json"
"""File of a prepared folder that states what it was built from, and its rows by split."""
CROP_UM = 25.0
"""Side of the crop around a cell, in um."""


def row_features() -> "datasets.Features":
    """Return the columns of a dataset.

    `image` holds the bytes of the image and `label` the class id (-1 is unlabeled). `source_label`
    is the code that the original archive uses and `image_id` its file name. `group` is the patient,
    slide or session if known. `um_per_px` is null only if the cell fills the frame, and
    `pixel_sha256` is the digest of the decoded RGB pixels (H, W, 3).
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
