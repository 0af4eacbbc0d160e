"""Known kinds of outliers are recognized, and cells are not mistaken for them."""

import csv
import dataclasses
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from hf_wbc.cli.main import main
from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.inference.build_gallery import build_reference_set
from hf_wbc.inference.gallery import OUTLIERS, REFERENCE_FILE, read_reference_set
from hf_wbc.inference.outliers import OutlierKind, fit_outlier_kind, recognize
from hf_wbc.inference.predictor import Predictor
from hf_wbc.models import load_trained

UM_PER_PX = 25 / 36


def cluster(num: int, place: float, seed: int) -> np.ndarray:
    """Return features (num, 8) around a point."""
    return np.random.default_rng(seed).normal(place, 1, (num, 8)).astype(np.float32)


def test_outlier_kinds_are_recognized_and_cells_are_not() -> None:
    cells, held_out = cluster(400, 0, 0), cluster(400, 0, 1)
    near, far = (fit_outlier_kind(n, cluster(60, p, 2), cells, held_out) for n, p in KINDS)
    assert near.recall > 0.9 and near.num_images == 30
    assert np.mean(near.scores(held_out) > 0) <= 0.005
    assert np.mean([name == "near" for name in recognize((near, far), cluster(50, 3, 3))]) > 0.9
    assert np.mean([name == "far" for name in recognize((near, far), cluster(50, -3, 4))]) > 0.9
    assert recognize((), held_out[:2]) == ["", ""]


KINDS = (("near", 3.0), ("far", -3.0))


def test_outlier_kind_round_trips_through_json() -> None:
    kind = fit_outlier_kind("platelet", cluster(40, 3, 0), cluster(90, 0, 1), cluster(90, 0, 2))
    same = OutlierKind.from_dict(json.loads(json.dumps(kind.to_dict())), 8)
    np.testing.assert_array_equal(same.weight, kind.weight)
    assert dataclasses.replace(same, weight=kind.weight).to_dict() == kind.to_dict()
    changes = {"weight": "?"}, {"bias": "nan"}, {"num_images": float("inf")}, {"recall": 10**400}
    for bad in ({}, *({**kind.to_dict(), **each} for each in changes)):
        with pytest.raises(ValueError, match=r"damaged|finite"):
            OutlierKind.from_dict(bad, 8)
    with pytest.raises(ValueError, match="9 features"):
        OutlierKind.from_dict(kind.to_dict(), 9)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(ValueError, match="19 images"):
        fit_outlier_kind("platelet", cluster(19, 3, 0), cluster(90, 0, 1), cluster(90, 0, 2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of bright stripes, which no toy cell looks like."""
    root, rng = tmp_path_factory.mktemp("outliers"), np.random.default_rng(0)
    for number in range(24):
        pixels = rng.integers(0, 30, (40, 40, 3), np.uint8)
        pixels[number % 4 :: 4] = (0, 255, 0)
        Image.fromarray(pixels).save(root / f"{number:02d}.png")
    return root


def test_page_and_predict_name_the_fitted_outliers(
    laboratories: tuple[str, str], tiny_model: str, folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    config = TrainConfig(sources=laboratories[:1], model=tiny_model, learning_rate=1e-2, steps=10)
    model = tmp_path / "model"
    shutil.copytree(run(config, tmp_path / "runs", tmp_path / "cache").model, model)
    words = ["reference", str(model), laboratories[0], "--outliers", f"stripe={folder}"]
    assert main([*words, "--outlier-um-per-px", str(UM_PER_PX)]) == 0
    predictor = Predictor.load(str(model), runtime="torch")
    found = predictor.predict([np.array(Image.open(folder / "01.png"))], UM_PER_PX)[0]
    assert found.rejected and found.outlier == "stripe"
    assert any("looks like a stripe" in each for each in found.warnings)
    assert predictor.info["reference"]["outliers"]["stripe"] > 0.9
    cell = np.full((40, 40, 3), (236, 220, 226), np.uint8)
    assert predictor.predict([cell], UM_PER_PX)[0].outlier == ""
    mixed = tmp_path / "mixed"
    shutil.copytree(folder, mixed)
    Image.fromarray(cell).save(mixed / "cell.png")
    words = ["predict", str(model), str(mixed), "--um-per-px", str(UM_PER_PX), "--num-proc", "1"]
    assert main([*words, "--runtime", "torch", "--out", str(tmp_path / "cells.csv")]) == 0
    with (tmp_path / "cells.csv").open(newline="") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    kinds = Counter(row["outlier"] for row in rows.values())
    assert kinds["stripe"] > 20 and rows["cell.png"]["outlier"] == ""
    assert all(row["rejected"] == "True" for row in rows.values() if row["outlier"])
    assert f"{kinds['stripe']} look like a stripe" in capsys.readouterr().out


def test_invalid_outliers_are_reported(
    laboratories: tuple[str, str], tiny_model: str, folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    config = TrainConfig(sources=laboratories[:1], model=tiny_model, steps=1)
    model = run(config, tmp_path / "runs", tmp_path / "cache").model
    assert main(["reference", str(model), laboratories[0], "--outliers", str(folder)]) == 1
    assert "NAME=FOLDER" in capsys.readouterr().err
    with pytest.raises(ValueError, match="scale of the outliers"):
        build_reference_set(model, laboratories[:1], outliers={"stripe": folder})
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "03.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"03\.png"):
        build_reference_set(
            model, laboratories[:1], outliers={"stripe": broken}, outlier_um_per_px=UM_PER_PX
        )
    path = build_reference_set(model, laboratories[:1])
    table = pq.read_table(path)
    metadata = {**json.loads(table.schema.metadata[b"hf_wbc"]), OUTLIERS: [{"name": "stripe"}]}
    pq.write_table(table.replace_schema_metadata({"hf_wbc": json.dumps(metadata)}), path)
    assert path.name == REFERENCE_FILE
    with pytest.raises(ValueError, match="damaged"):
        read_reference_set(str(model), load_trained(str(model)))
