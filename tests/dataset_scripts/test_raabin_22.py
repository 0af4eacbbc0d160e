"""Raabin-WBC: an archive drawn in the published layout becomes a dataset."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from datasets import load_dataset

import dataset_scripts
from hf_wbc.data.archive import open_archive
from hf_wbc.preparation.build import prepare
from hf_wbc.taxonomy import NAMES

SOURCE = dataset_scripts.load("raabin_22")
CLASSES = ("Basophil", "Eosinophil", "Lymphocyte", "Monocyte", "Neutrophil")
FILES = [
    *(f"{part}/{cell}/2019{n:04d}_1_{n}.jpg" for part in ("Train", "TestA") for cell in CLASSES
      for n in range(4)),
    *(f"TestB/{cell}/2019{n:04d}_1_{n}.jpg" for cell in ("Lymphocyte", "Neutrophil")
      for n in range(4)),
]  # fmt: skip
Draw = Callable[[Path, Iterable[str]], Path]


@pytest.mark.slow
@pytest.mark.ci
def test_drawn_archive_is_built_with_merged_neutrophils(draw_images: Draw, tmp_path: Path) -> None:
    archive = draw_images(tmp_path / "raabin", FILES)
    built = prepare(SOURCE, archive, tmp_path / "raabin_22", num_proc=1)
    splits = load_dataset(str(built), "cropped")
    rows = [row for split in splits.values() for row in split.remove_columns("image")]
    assert {row["image_id"] for row in rows} == {*FILES}
    assert Counter(NAMES[row["label"]] for row in rows) == {
        "basophil": 8, "eosinophil": 8, "lymphocyte_typical": 12, "monocyte": 8,
        "neutrophil_segmented": 12,
    }  # fmt: skip
    assert {row["um_per_px"] for row in rows} == {None}
    assert "not yet been seen on a real copy" in " ".join(
        (built / "README.md").read_text(encoding="utf-8").split()
    )


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["Train/Blast/1_1.jpg", "Train/Basophil/1_1.jpg"], "Train/Blast/1_1.jpg"),
        (["elsewhere/1.txt"], "not Raabin-WBC"),
        (["Train/Basophil/1_1.jpg", "copy/Train/Basophil/1_1.jpg"], "are both"),
    ],
)
def test_unknown_folders_are_reported(names: list[str], said: str, tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=said):
        list(SOURCE.walk(open_archive(tmp_path, tmp_path / "scratch")))
