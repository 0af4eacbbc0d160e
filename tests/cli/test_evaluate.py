"""`hf-wbc evaluate MODEL FOLDER` writes the record, predictions, and figures once."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.metrics import f1_score, roc_auc_score

from hf_wbc.api import embed
from hf_wbc.cli.main import main
from hf_wbc.data.dataset import load_split
from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.engine.features import load_images
from hf_wbc.engine.forward import FLIPS
from hf_wbc.evaluation.validators import unit_rows
from hf_wbc.inference.gallery import read_reference_set
from hf_wbc.models import load_trained
from hf_wbc.records import RunFolder
from hf_wbc.taxonomy import NAMES

MERGE = ("--merge", "neutrophil_banded=neutrophil_segmented")
CLASSES = ("--classes", "basophil", "eosinophil", "neutrophil_segmented")


@pytest.fixture(scope="module")
def trained(
    laboratories: tuple[str, str], tiny_model: str, tmp_path_factory: pytest.TempPathFactory
) -> RunFolder:
    """Train a run that has learned something on the source."""
    out = tmp_path_factory.mktemp("runs")
    words = f"--sources {laboratories[0]} --model {tiny_model} --output-dir {out}".split()
    words += ["--learning-rate", "1e-2"]
    more = ["--steps", "60", "--batch-size", "22", "--eval-steps", "30"]
    assert main(["train", *words, *more]) == 0
    (path,) = out.iterdir()
    return RunFolder(path)


def evaluate(
    trained: RunFolder, data: str, out: Path, *more: str, model: str | None = None
) -> RunFolder:
    before = set(out.iterdir()) if out.exists() else set()
    assert main(["evaluate", model or str(trained.model), data, "--out", str(out), *more]) == 0
    (path,) = set(out.iterdir()) - before
    return RunFolder(path)


def test_scores_match_training_record(
    trained: RunFolder, laboratories: tuple[str, str], tmp_path: Path
) -> None:
    found = evaluate(trained, laboratories[0], tmp_path).read_record()
    assert found["scores"] == trained.read_record()["results"]["home"]["test"]
    assert found["kind"] == "evaluation" and found["splits"] == ["test"]
    assert found["data"]["test"] == trained.read_record()["sources"][0]["test"]
    assert found["model"]["revision"].startswith("sha256:")
    assert found["cost"]["images_per_s"] > 0 and found["packages"]["torch"]


def test_merged_and_chosen_classes_match_sklearn(
    trained: RunFolder, laboratories: tuple[str, str], tmp_path: Path
) -> None:
    folder = evaluate(trained, laboratories[1], tmp_path, *MERGE, *CLASSES)
    record = folder.read_record()
    assert record["scores"]["num_classes"] == 3
    assert record["scores"]["merge"] == [MERGE[1]]
    into = list(range(len(NAMES)))
    into[NAMES.index("neutrophil_banded")] = NAMES.index("neutrophil_segmented")
    chosen = [NAMES.index(name) for name in CLASSES[1:]]
    rows = pq.read_table(folder.predictions).to_pylist()
    pairs = [(into[row["label"]], into[row["predicted"]]) for row in rows]
    kept = [pair for pair in pairs if pair[0] in chosen]
    expected = f1_score(*zip(*kept, strict=True), labels=chosen, average="macro", zero_division=0)
    assert record["scores"]["macro_f1"] == pytest.approx(expected)
    with Image.open(folder.path / "confusion.png") as picture:
        assert picture.size > (600, 600)


def test_probability_scores_have_intervals_and_are_printed(
    trained: RunFolder, laboratories: tuple[str, str], tmp_path: Path, capsys: Any
) -> None:
    folder = evaluate(trained, laboratories[1], tmp_path)
    found = folder.read_record()["probability_scores"]
    rows = pq.read_table(folder.predictions).to_pylist()
    labels = np.array([row["label"] for row in rows])
    areas = [
        roc_auc_score(labels == each, [row[f"p_{NAMES[each]}"] for row in rows])
        for each in np.unique(labels)
    ]
    assert found["auroc_ovr"] == pytest.approx(np.mean(areas))
    low, high = found["intervals"]["auroc_ovr"]
    assert low < found["auroc_ovr"] < high
    said = capsys.readouterr().out
    assert f"AUROC, one-vs-rest  {found['auroc_ovr']:.3f} [{low:.3f}, {high:.3f}]" in said


def test_flips_at_test_time_average_mirrored_images(
    trained: RunFolder, laboratories: tuple[str, str], tmp_path: Path
) -> None:
    plain = evaluate(trained, laboratories[1], tmp_path)
    flipped = evaluate(trained, laboratories[1], tmp_path, "--test-time-flips")
    assert flipped.read_record()["images"]["treatment"]["flips"]
    loaded = load_trained(str(trained.model))
    pixels = load_images(loaded, load_split(laboratories[1], "test")).batch(np.arange(22))
    how = ImagePreprocessing(loaded.preprocessing.mean, loaded.preprocessing.std)
    inputs = preprocess(pixels, how)
    loaded.classifier.eval()
    with torch.inference_mode():
        views = [loaded.classifier(inputs.flip(axes)).logits for axes in FLIPS]
    logits = np.stack(pq.read_table(flipped.predictions)["logits"].to_pylist())
    assert logits == pytest.approx(torch.stack(views).mean(0).numpy(), abs=1e-4)
    assert (logits != np.stack(pq.read_table(plain.predictions)["logits"].to_pylist())).any()


@pytest.fixture(scope="module")
def with_reference(
    trained: RunFolder, laboratories: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Copy the model, and build a reference set of two cells of each class."""
    model = tmp_path_factory.mktemp("reference") / "model"
    shutil.copytree(trained.model, model)
    assert main(["reference", str(model), laboratories[0], "--per-class", "2"]) == 0
    return str(model)


def test_vote_of_neighbors_replaces_the_head(
    trained: RunFolder,
    with_reference: str,
    laboratories: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = [
        evaluate(trained, laboratories[1], tmp_path, *more, model=with_reference)
        for more in ((), ("--neighbors", "1"), ("--neighbors", "3"))
    ]
    head, nearest, voted = (folder.read_record() for folder in folders)
    assert "neighbors" not in head and head["calibration"] is not None
    assert voted["neighbors"]["num_neighbors"] == 3 and voted["calibration"] is None
    assert voted["neighbors"]["num_cells"] == 2 * len(NAMES)
    assert "22 reference cells of home" in capsys.readouterr().out
    gallery = read_reference_set(with_reference, load_trained(with_reference)).gallery
    assert gallery is not None
    cells = pq.read_table(folders[1].predictions)
    features = embed(with_reference, laboratories[1], cache=tmp_path / "features")["test"]
    closest = (unit_rows(features) @ gallery.features.T).argmax(1)
    assert cells["predicted"].to_pylist() == gallery.labels[closest].tolist()
    expected = f1_score(cells["label"].to_pylist(), cells["predicted"].to_pylist(), average="macro")
    assert nearest["scores"]["macro_f1"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("more", "has_reference", "said"),
    [
        (("--neighbors", "0"), True, "at least 1"),
        (("--neighbors", "23"), True, "22 reference cells"),
        (("--neighbors", "1"), False, "hf-wbc reference"),
        (("--neighbors", "1", "--splits", "train"), True, "name themselves"),
    ],
)
def test_impossible_votes_are_reported_and_nothing_written(
    trained: RunFolder,
    with_reference: str,
    laboratories: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    has_reference: bool,
    said: str,
) -> None:
    model = with_reference if has_reference else str(trained.model)
    out = tmp_path / "out"
    assert main(["evaluate", model, laboratories[0], "--out", str(out), *more]) == 1
    assert said in capsys.readouterr().err and not out.exists()


def test_multiple_splits_are_scored_together(
    trained: RunFolder, laboratories: tuple[str, str], tmp_path: Path
) -> None:
    both = evaluate(trained, laboratories[1], tmp_path, "--splits", "validation", "test")
    alone = evaluate(trained, laboratories[1], tmp_path)
    assert both.read_record()["scores"]["num_images"] == 44
    assert alone.read_record()["scores"]["num_images"] == 22


def test_damaged_record_of_a_finished_evaluation_is_reported(
    trained: RunFolder,
    laboratories: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = evaluate(trained, laboratories[0], tmp_path)
    record = json.loads(folder.record.read_text())
    scores = record["scores"]
    for damaged in (
        {**record, "scores": {**scores, "confusion": 1}},
        {**record, "scores": {**scores, "consequences": {"critical": 0.1}}},
        {**record, "scores": {**scores, "intervals": {}}},
        {**record, "data": "x"},
    ):
        folder.record.write_text(json.dumps(damaged))
        assert main(["evaluate", str(trained.model), laboratories[0], "--out", str(tmp_path)]) == 1
        said = capsys.readouterr().err
        assert f"{folder.record} is damaged" in said and "delete" in said


def test_identical_evaluation_is_not_repeated(
    trained: RunFolder, laboratories: tuple[str, str], tmp_path: Path
) -> None:
    folder = evaluate(trained, laboratories[0], tmp_path)
    written = folder.record.stat().st_mtime_ns
    (folder.path / "confusion.png").unlink()
    assert main(["evaluate", str(trained.model), laboratories[0], "--out", str(tmp_path)]) == 0
    assert folder.record.stat().st_mtime_ns == written
    assert (folder.path / "confusion.png").exists()


def test_dataset_without_scale_is_refused_unless_allowed(
    trained: RunFolder, make_domain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unscaled = str(make_domain(tmp_path / "unscaled", name="unscaled", um_per_px=None))
    out = tmp_path / "out"
    assert main(["evaluate", str(trained.model), unscaled, "--out", str(out)]) == 1
    assert "--allow-unscaled" in capsys.readouterr().err and not out.exists()
    record = evaluate(trained, unscaled, out, "--allow-unscaled").read_record()
    assert record["data"]["um_per_px"] is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--merge", "basophil"), "merge 'basophil' is not FROM=INTO"),
        (("--classes", "monocyt"), "unknown class 'monocyt'"),
        (("--splits",), "splits are none; name each once with --splits"),
        (("--splits", "test", "test"), "splits are test, test; name each once"),
    ],
)
def test_invalid_options_are_reported_and_nothing_written(
    trained: RunFolder,
    laboratories: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    said: str,
) -> None:
    words = ["evaluate", str(trained.model), laboratories[1], "--out", str(tmp_path / "out")]
    assert main([*words, *more]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_model_with_other_labels_is_refused(
    tiny_model: str,
    laboratories: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["evaluate", tiny_model, laboratories[0], "--out", str(tmp_path / "out")]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "is not a model of the eleven classes" in said and f"--model {tiny_model}" in said
    assert not (tmp_path / "out").exists()


def test_unlabeled_dataset_is_refused(
    trained: RunFolder, make_domain: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blank = str(make_domain(tmp_path / "blank", name="blank", labeled=False))
    assert main(["evaluate", str(trained.model), blank, "--out", str(tmp_path / "out")]) == 1
    assert f"{blank} has no labels" in capsys.readouterr().err
