"""`hf-wbc find` on drawn fields, with boxes and with a model."""

import csv

import pytest
from PIL import Image
from support.fields import UM_PER_PX, draw_field

from hf_wbc.cli.main import main
from hf_wbc.shipped import shipped
from hf_wbc.taxonomy import NAMES

CELLS = ((14.0, 16.0), (45.0, 26.0))


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fields")
    for seed, name in enumerate("ab"):
        Image.fromarray(draw_field(white=CELLS, seed=seed)).save(folder / f"{name}.png")
    return folder


def test_found_cells_are_compared_with_boxes(fields, tmp_path, capsys):
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    lines = [f"0 {x / 64} {y / 48} 0.2 0.2" for x, y in (*CELLS, (30.0, 8.0))]
    for name in "ab":
        (boxes / f"{name}.txt").write_text("\n".join(lines))
    arguments = ["find", str(fields), "--out", str(tmp_path / "out"), "--boxes", "0"]
    assert main([*arguments, "--evaluate", str(boxes)]) == 0
    printed = capsys.readouterr().out
    assert "4 cells in 2 fields" in printed
    assert "recall 0.667, precision 1.000" in printed
    assert "a.png, b.png" in printed  # where cells were missed


def test_model_classifies_every_cell(fields, tmp_path):
    out = tmp_path / "out"
    model = str(shipped("spaces/wbc/toy_model"))
    assert main(["find", str(fields), "--out", str(out), "--model", model]) == 0
    with (out / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert all(row["predicted"] in NAMES for row in rows)
    assert all(1 / 11 <= float(row["probability"]) <= 1 for row in rows)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--um-per-px", "5"], "um per pixel"),
        (["--evaluate", "."], "no boxes"),
        (["--evaluate", "../boxes_of_others"], "no field has a file of boxes"),
        (["--model", "runs/absent"], "runs/absent"),
    ],
)
def test_invalid_options_fail_before_any_work(fields, tmp_path, monkeypatch, capsys, flags, said):
    (tmp_path.parent / "boxes_of_others").mkdir(exist_ok=True)
    (tmp_path.parent / "boxes_of_others" / "c.txt").write_text("0 .5 .5 .2 .2")
    monkeypatch.chdir(tmp_path)
    assert main(["find", str(fields), "--out", "out", *flags]) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_estimated_scale_matches_drawing(fields, tmp_path, capsys):
    assert main(["find", str(fields), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    told = float(printed.partition(" um, ")[2].split()[0])
    assert told == pytest.approx(UM_PER_PX, rel=0.06)
