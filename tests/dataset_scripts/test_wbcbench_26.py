"""WBCBench 2026: an archive drawn in the challenge's layout, its labels, and its own test set."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from datasets import load_dataset

import dataset_scripts
from hf_wbc.data.archive import open_archive
from hf_wbc.preparation.build import prepare
from hf_wbc.preparation.source import Entry
from hf_wbc.taxonomy import NAMES, UNLABELED

LABELED, TEST = dataset_scripts.load("wbcbench_26"), dataset_scripts.load("wbcbench_26_test")
CODES = ("BA", "BL", "BNE", "EO", "LY", "MMY", "MO", "MY", "PC", "PLY", "PMY", "SNE", "VLY")
FOLDERS = {
    "phase1_label.csv": "phase1",
    "phase2_train.csv": "phase2/train",
    "phase2_eval.csv": "phase2/eval",
    "phase2_test.csv": "phase2/test",
}


def files(root: Path) -> dict[str, str]:
    """Write the four tables, and return the label of each image by path."""
    root.mkdir(parents=True)
    labels = {}
    for number, (table, folder) in enumerate(FOLDERS.items()):
        rows = []
        for place in range(2 * len(CODES)):
            image_id = f"{1_400_000 + 1000 * number + place:08d}.jpg"
            code = "" if folder.endswith("test") else CODES[place % len(CODES)]
            labels[f"{folder}/{image_id}"] = code
            rows.append(f"{image_id},{code}\n")
        (root / table).write_text("ID,labels\n" + "".join(rows))
    return labels


def walk(root: Path) -> list[Entry]:
    return list(LABELED.walk(open_archive(root, root.parent / "scratch")))


@pytest.fixture
def archive(draw_images: Callable[[Path, Iterable[str]], Path], tmp_path: Path) -> Path:
    root = tmp_path / "wbc-bench-2026"
    return draw_images(root, files(root))


@pytest.mark.slow
@pytest.mark.ci
def test_labeled_images_are_built_without_other_classes(archive: Path, tmp_path: Path) -> None:
    built = prepare(LABELED, archive, tmp_path / "labeled", num_proc=1)
    rows = [
        row for split in load_dataset(str(built), "cropped").values()
        for row in split.remove_columns("image")
    ]  # fmt: skip
    assert len(rows) == 3 * 2 * 10
    codes = {row["source_label"]: NAMES[row["label"]] for row in rows}
    assert codes == {code: cell for code, cell in LABELED.labels.items() if cell}
    assert codes["BL"] == "myeloblast" and codes["SNE"] == "neutrophil_segmented"


@pytest.mark.slow
@pytest.mark.ci
def test_challenge_test_set_is_a_separate_unlabeled_domain(archive: Path, tmp_path: Path) -> None:
    built = prepare(TEST, archive, tmp_path / "test", num_proc=1)
    rows = [row for split in load_dataset(str(built), "cropped").values() for row in split]
    assert {row["label"] for row in rows} == {UNLABELED} and len(rows) == 2 * len(CODES)
    assert not {row["image_id"] for row in rows} & {entry.image_id for entry in walk(archive)}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "phase1_label.csv").unlink(), "phase1_label.csv"),
        (lambda root: (root / "phase1/01400003.jpg").unlink(), "01400003.jpg is missing"),
        (lambda root: (root / "phase2/eval/01999999.jpg").touch(), "01999999.jpg"),
        (
            lambda root: (root / "phase2_train.csv").open("a").write("01401000.jpg,SNE\n"),
            "01401000.jpg is listed twice",
        ),
    ],
)
def test_inconsistent_tables_and_folders_are_refused(
    change: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    root = tmp_path / "wbc-bench-2026"
    for name in files(root):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    assert len(walk(root)) == 3 * 2 * len(CODES)
    change(root)
    with pytest.raises(ValueError, match=said):
        walk(root)
