"""Every command reads folders of one or two patients, of a few images, or of identical images.

`prepare` keeps patients and duplicates together, so such folders have splits without images.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hf_wbc.cli.main import main
from hf_wbc.data.dataset import load_split, load_splits
from hf_wbc.data.schema import SPLITS
from hf_wbc.labeling.drift import FEWEST
from hf_wbc.records import read_json
from hf_wbc.taxonomy import NAMES as NAMES_OF

pytestmark = pytest.mark.usefixtures("flat_maps")
SLOW = (pytest.mark.slow, pytest.mark.ci)
CLASSES = ("basophil", "eosinophil", "monocyte")
SHAPES: Mapping[str, tuple[int, ...]] = {
    "one_image": (1, 0, 0),
    "two_images": (1, 1, 0),
    "three_images": (3, 0, 0),
    "identical": (8, 0, 0),
    "one_patient": (4, 4, 4),
    "two_patients": (4, 4, 4),
}
"""Number of images of each class."""
NAMES = [
    *("one_image", "two_patients"),
    *(pytest.param(n, marks=SLOW) for n in SHAPES if n not in ("one_image", "two_patients")),
]


def write_cells(root: Path, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for label, number in enumerate(SHAPES[name]):
        for cell in range(number):
            pixels = rng.integers(0, 80, (64, 64, 3), np.uint8)
            pixels[20:-20, 20:-20, label] += np.uint8(120)
            if name == "identical":
                pixels[:] = 90
            folder = root / f"{CLASSES[label]}" / str(cell % 2 if name == "two_patients" else 0)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"cell_{label}{cell}.png")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Prepare the cells of a shape once."""
    root, made = tmp_path_factory.mktemp("few"), dict[str, Path]()

    def make(name: str) -> Path:
        if name not in made:
            write_cells(root / "raw" / name, name, len(made))
            classes = {cell: cell for cell, n in zip(CLASSES, SHAPES[name], strict=True) if n}
            mapping: dict[str, Any] = {"name": name, "um_per_px": 0.5, "classes": classes}
            if name.endswith(("patient", "patients")):
                mapping["group"] = "/([0-9]+)/"
            (root / f"{name}.json").write_text(json.dumps(mapping))
            words = ["prepare", "class_folders", "--archive", str(root / "raw" / name)]
            words += ["--mapping", str(root / f"{name}.json"), "--num-proc", "1"]
            made[name] = root / name
            assert main([*words, "--out", str(made[name])]) == 0
        return made[name]

    return make


@pytest.fixture(scope="module")
def model(laboratories: tuple[str, str], tiny_model: str, tmp_path_factory: Any) -> str:
    """Return a model that was trained on plenty of images."""
    out = tmp_path_factory.mktemp("model")
    return str(train(out, tiny_model, laboratories[0]) / "model")


def train(out: Path, model: str, source: object, *more: str) -> Path:
    """Train in two steps and return the run's folder."""
    words = ["train", "--model", model, "--steps", "2", "--batch-size", "4", "--output-dir"]
    words += [str(out), "--cache", str(out / "cache"), "--sources", str(source), *more]
    assert main(words) == 0
    (record,) = out.glob("*/record.json")
    return record.parent


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
@pytest.mark.ci
def test_every_command_reads_small_folders(
    name: str, prepared: Callable[[str], Path], model: str, tmp_path: Path, capsys: Any
) -> None:
    folder, cells = str(prepared(name)), tmp_path / "cells.csv"
    sizes = {split.split: len(split) for split in load_splits(folder)}
    assert sizes == read_json(Path(folder) / "provenance.json")["num_rows"]
    assert 0 in sizes.values() or name == "three_images", sizes
    full = [split for split in SPLITS if sizes[split]]
    assert main(["audit", folder, "--out", str(tmp_path / "audit"), "--num-proc", "1"]) in (0, 3)
    assert main(["embed", model, folder, "--cache", str(tmp_path / "features")]) == 0
    assert len([*(tmp_path / "features").glob("*.parquet")]) == len(full)
    words = [model, folder, "--splits", *SPLITS, "--out"]
    assert main(["evaluate", *words, str(tmp_path / "scored")]) == 0
    words += [str(cells), "--runtime", "torch", "--num-proc", "1"]
    assert main(["predict", *words]) == 0
    assert len(cells.read_text().splitlines()) == 1 + sum(sizes.values())
    capsys.readouterr()
    for split in set(SPLITS) - set(full):
        arguments = [model, folder, "--splits", split, "--out", str(tmp_path / split)]
        assert main(["evaluate", *arguments]) == 1
        said = capsys.readouterr().err
        assert f"no {split} images" in said and f"--splits {' '.join(full)}" in said


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("name", NAMES)
def test_few_cells_can_be_labeled_accepted_and_stressed(
    name: str, prepared: Callable[[str], Path], model: str, tmp_path: Path
) -> None:
    folder, train = str(prepared(name)), load_split(str(prepared(name)), "train")
    rows = [f"{i},{NAMES_OF[c]}" for i, c in zip(train.image_ids, train.labels, strict=True)]
    (tmp_path / "l.csv").write_text("\n".join(["image_id,label", *rows]))
    words = ["--cache", str(tmp_path), "--runtime", "torch", "--num-proc", "1"]
    out = ["--out", str(tmp_path / "new.csv"), "--folder-labels"]
    assert main(["label", model, folder, *out, *words]) == 0
    out = ["--out", str(tmp_path / "accepted"), "--labels", str(tmp_path / "l.csv")]
    assert main(["accept", model, folder, *out, *words]) in (3, 4)
    num = len(train) + len(load_split(folder, "validation"))
    assert (tmp_path / "accepted/acceptance.html").exists()
    assert (tmp_path / "accepted/baseline.npz").exists() == (num >= FEWEST)
    out = ["--out", str(tmp_path / "stressed"), "--split", "train", "--corruptions", "jpeg"]
    assert main(["stress", model, folder, *out, "--runtime", "torch"]) == 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
@pytest.mark.ci
def test_training_uses_available_splits_and_notes_missing_ones(
    name: str,
    prepared: Callable[[str], Path],
    tiny_model: str,
    laboratories: tuple[str, str],
    tmp_path: Path,
    capsys: Any,
) -> None:
    run = train(tmp_path / "source", tiny_model, prepared(name), "--target", laboratories[1])
    record, said = read_json(run / "record.json"), capsys.readouterr().out
    for split, number in record["sources"][0]["num_images"].items():
        what = {"train": "training"}.get(split, split)
        assert (f"{name} has no {what} images" in record["notes"]) == (number == 0)
    assert all(f"note: {note}" in said for note in record["notes"])
    if not record["sources"][0]["num_images"]["validation"]:
        assert record["selection"]["rule"] == "last"
        assert "nothing is calibrated" in record["calibration"]["note"]
        assert record["calibration"]["temperature"] == 1
    adapted = tmp_path / "target"
    folder = str(prepared(name))
    more = ("--target", folder, "--method", "coral", "--selection", "im")
    record = read_json(train(adapted, tiny_model, laboratories[0], *more) / "record.json")
    assert (record["selection"]["rule"] == "im") == bool(
        record["target"][0]["num_images"]["validation"]
    )
    assert main(["compare", str(tmp_path / "source"), "--out", str(tmp_path / "table")]) == 0
    assert main(["reference", str(run / "model"), folder]) == 0
    assert main(["evaluate", str(run / "model"), laboratories[1], "--out", str(tmp_path)]) == 0


def test_incomplete_copy_is_not_taken_for_an_empty_split(
    prepared: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(prepared("two_patients"), tmp_path / "copy")
    full = [split.split for split in load_splits(str(folder)) if len(split)][-1]
    empty = "validation" if full == "test" else "test"
    for path in (folder / "cropped").glob(f"{full}-*"):
        path.unlink()
    with pytest.raises(ValueError, match="but contains nothing"):
        load_split(str(folder), full)
    for path in (folder / "cropped").glob("train-*"):
        path.rename(path.with_name(path.name.replace("train", empty)))
    with pytest.raises(ValueError, match=f"states that {empty} has no rows"):
        load_split(str(folder), empty)


def test_options_that_need_missing_images_are_refused(
    prepared: Callable[[str], Path], tiny_model: str, capsys: Any
) -> None:
    words = ["train", "--model", tiny_model, "--sources", str(prepared("one_patient"))]
    assert main([*words, "--steps", "2", "--swad"]) == 1
    assert "--ema" in capsys.readouterr().err
    assert main([*words, "--steps", "2", "--allow-single", "--adapt-steps", "5"]) == 1
    said = capsys.readouterr().err
    assert "--allow-single has no effect any more; leave it out" in said
    assert "no second phase" in said, "only the other mistake ends the command"
