"""The development set of the 2022 challenge: WBC1/DATA-VAL/<number>.TIF."""

from pathlib import Path

from dataset_scripts._challenge import WBC_1, build
from hf_wbc.preparation.source import ArchiveSpec


def configure(labels: Path) -> ArchiveSpec:
    """Add the owner's labels: a table Image,Label,LabelID or the challenge's metadata.csv."""
    return build(WBC_1, labels)


SOURCE = build(WBC_1)
