"""Bulk prediction: resumable chunks and several processes give identical results."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.forked import start_forked

from hf_wbc.api import evaluate
from hf_wbc.cli.main import main
from hf_wbc.config import TrainConfig
from hf_wbc.data import image_blocks
from hf_wbc.engine.run import run
from hf_wbc.inference import batch_predict
from hf_wbc.inference.prediction_file import COLUMNS, SET_SEPARATOR
from hf_wbc.models import load_trained, save_classifier
from hf_wbc.taxonomy import NAMES

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = (
    sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"
)  # fmt: skip
HF_WBC = str(Path(sys.executable).with_name("hf-wbc"))
NUM, DEADLINE_S = 700, 300


@pytest.fixture(scope="module")
def model(
    laboratories: tuple[str, str], tiny_model: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
    config = TrainConfig(sources=laboratories[:1], model=tiny_model, learning_rate=1e-2, steps=40)
    out = tmp_path_factory.mktemp("runs")
    return str(run(config, out, out / "cache").model)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three blocks of small images in class colors."""
    folder, rng = tmp_path_factory.mktemp("bulk") / "cells", np.random.default_rng(0)
    folder.mkdir()
    for number in range(NUM):
        pixels = rng.integers(0, 90, (36, 38, 3), np.uint8)
        pixels[8:28, 8:28, number % 3] += np.uint8(120)
        Image.fromarray(pixels).save(folder / f"{number:04}.png", compress_level=1)
    return folder


def command(model: str, cells: Path, out: Path) -> list[str]:
    words = ["predict", model, str(cells), "--out", str(out), "--format", "parquet"]
    return [*words, "--cell-fills-frame", "--num-proc", "1", "--runtime", "torch"]


def environment() -> Mapping[str, str]:
    """Return this environment, offline, on the CPU, and without variables of an outer launcher."""
    left = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    kept = {name: value for name, value in os.environ.items() if name not in left}
    return {**kept, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def whole(model: str, cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output file of one undisturbed process."""
    out = tmp_path_factory.mktemp("whole") / "a.parquet"
    assert main(command(model, cells, out)) == 0
    assert not out.with_name("a.parquet.partial").exists()
    return out


def assert_alike(found: Path, expected: Path) -> None:
    """Assert bit-identical predictions."""
    assert pq.read_table(found).equals(pq.read_table(expected))


@pytest.mark.slow
@pytest.mark.ci
def test_killed_prediction_resumes(
    model: str, cells: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.parquet"
    write = batch_predict.write_chunk

    def die_writing() -> int:
        def write_and_die(path: Path, *more: Any) -> None:
            write(path, *more)
            if path.stem == "0000001":
                os.kill(os.getpid(), signal.SIGKILL)

        batch_predict.write_chunk = write_and_die
        return main(command(model, cells, out))

    assert start_forked(die_writing).wait() == -signal.SIGKILL and not out.exists()
    (build,) = (path for path in (tmp_path / "a.parquet.partial").iterdir() if path.is_dir())
    assert sorted(path.stem for path in build.glob("*.parquet")) == ["0000000", "0000001"]
    (build / "0000000.parquet").write_bytes(b"")  # as after a power cut
    made = list[str]()

    def noted(path: Path, *more: Any) -> None:
        made.append(path.stem)
        write(path, *more)

    monkeypatch.setattr(batch_predict, "write_chunk", noted)
    assert main(command(model, cells, out)) == 0
    assert made == ["0000000", "0000002"]
    assert_alike(out, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_changed_images_are_predicted_again(model: str, cells: Path, tmp_path: Path) -> None:
    copy, out = tmp_path / "cells", tmp_path / "a.parquet"
    copy.mkdir()
    for path in sorted(cells.iterdir())[:3]:
        (copy / path.name).write_bytes(path.read_bytes())
    assert main(command(model, copy, out)) == 0
    first = pq.read_table(out)["logits"].to_pylist()
    Image.open(copy / "0000.png").rotate(90).transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(
        copy / "0000.png"
    )
    Image.fromarray(np.full((36, 38, 3), 7, np.uint8)).save(copy / "0001.png")
    assert main(command(model, copy, out)) == 0
    second = pq.read_table(out)["logits"].to_pylist()
    assert first[1] != second[1] and first[2] == second[2]


@pytest.mark.slow
def test_two_processes_share_the_work(model: str, cells: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    words = [*TORCHRUN, HF_WBC, *command(model, cells, out)]
    done = subprocess.run(
        words, env=environment(), capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE_S
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count(f"{NUM} images") == 1  # only one of them prints it
    assert_alike(out, whole)


def test_concurrent_command_is_refused(
    model: str, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hf_wbc.preparation.work_folder import lock_work_folder

    out = tmp_path / "a.parquet"
    with lock_work_folder(out):
        assert main(command(model, cells, out)) == 1
    assert "another process is building" in capsys.readouterr().err


def test_prediction_sets_and_rejections_are_written(
    model: str, cells: Path, whole: Path, tmp_path: Path
) -> None:
    rows = pq.read_table(whole).to_pylist()
    abstention = load_trained(model).abstention
    assert abstention is not None
    for row in rows[:50]:
        chances = [row[f"p_{name}"] for name in row["conformal"]]
        assert chances == sorted(chances, reverse=True)
    assert any(row["conformal"] for row in rows) and isinstance(rows[0]["rejected"], bool)
    words = command(model, cells, tmp_path / "a.csv")
    words[words.index("parquet")] = "csv"
    assert main(words) == 0
    with (tmp_path / "a.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert tuple(read[0]) == COLUMNS
    for line, row in zip(read, rows, strict=True):
        assert [name for name in line["conformal"].split(SET_SEPARATOR) if name] == row["conformal"]
        assert line["rejected"] == str(row["rejected"]) and line["predicted"] in NAMES


def test_model_without_prediction_sets_leaves_columns_empty(
    model: str, cells: Path, tmp_path: Path
) -> None:
    loaded = load_trained(model)
    save_classifier(loaded.classifier, loaded.processor, tmp_path / "model")
    one = tmp_path / "one"
    one.mkdir()
    (one / "1.png").write_bytes((cells / "0000.png").read_bytes())
    assert main(command(str(tmp_path / "model"), one, tmp_path / "a.parquet")) == 0
    (row,) = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert row["conformal"] is None and row["rejected"] is None


def test_vote_of_neighbors_has_no_prediction_sets(
    model: str, laboratories: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    assert main(["reference", str(copy), laboratories[0], "--per-class", "2"]) == 0
    out, words = tmp_path / "a.parquet", ("--neighbors", "3", "--splits", "test")
    command = ["predict", str(copy), laboratories[1], "--out", str(out), "--format", "parquet"]
    assert main([*command, *words, "--runtime", "torch", "--num-proc", "1"]) == 0
    assert "3 nearest of 22 reference cells" in capsys.readouterr().out
    table = pq.read_table(out)
    assert table["conformal"].null_count == table["rejected"].null_count == len(table)
    facts = json.loads(table.schema.metadata[b"hf_wbc"])
    record = evaluate(copy, laboratories[1], tmp_path / "scored", neighbors=3)
    assert facts["neighbors"] == record["neighbors"]
    (folder,) = (tmp_path / "scored").iterdir()
    evaluated = pq.read_table(folder / "predictions.parquet")
    expected = {row["image_id"]: row["predicted"] for row in evaluated.to_pylist()}
    assert {row["image_id"]: row["predicted_id"] for row in table.to_pylist()} == expected
    assert main([*command, *words[2:], "--neighbors", "23"]) == 1
    assert "22 reference cells" in capsys.readouterr().err


def test_effect_of_bf16_is_reported(
    model: str, laboratories: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.csv"
    words = ["predict", model, laboratories[0], "--out", str(out), "--precision", "bf16"]
    assert main([*words, "--runtime", "torch", "--num-proc", "1"]) == 0
    said = capsys.readouterr().out
    assert "bf16 changed" in said and "on 88 cells; macro-F1" in said


def test_num_blocks_rounds_up() -> None:
    assert image_blocks.num_blocks(0) == 0 and image_blocks.num_blocks(1) == 1
    assert image_blocks.num_blocks(2 * image_blocks.BLOCK + 1) == 3
