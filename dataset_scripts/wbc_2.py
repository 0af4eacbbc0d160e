"""The test set of the challenge of 2022: WBC2/DATA-TEST/<number>.TIF."""

from pathlib import Path

from dataset_scripts._challenge import WBC_2, build
from hf_wbc.preparation.source import ArchiveSpec


def configure(labels: Path) -> ArchiveSpec:
    """With the owner's labels: a table Image,Label,LabelID, or the challenge's metadata.csv."""
    return build(WBC_2, labels)


SOURCE = build(WBC_2)
