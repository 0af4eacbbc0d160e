"""Fields of view in a folder of cells are never taken for one cell."""

import csv

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from support.fields import UM_PER_PX, draw_field

from hf_wbc.cli.main import main
from hf_wbc.data.crop import Geometry
from hf_wbc.data.image_blocks import read_blocks
from hf_wbc.inference.image_source import find_image_folder
from hf_wbc.inference.options import PredictOptions
from hf_wbc.shipped import shipped

CELLS = ((14.0, 16.0), (45.0, 26.0))


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "cells"
    path.mkdir()
    Image.fromarray(draw_field(white=CELLS)).save(path / "field.png")
    Image.fromarray(draw_field((30.0, 30.0), ((15.0, 15.0),))).save(path / "one.png")
    return path


def found(folder, **options):
    return find_image_folder(str(folder), PredictOptions(UM_PER_PX, **options))


def test_field_is_replaced_by_its_cells(folder):
    images = found(folder)
    assert images.names == ("field.png#1", "field.png#2", "one.png")
    assert any("field.png" in note and "2 cells" in note for note in images.notes)
    (block,) = read_blocks(images, Geometry(64, 3), 1)
    assert block.names == images.names
    for square in block.pixels.astype(int):  # a nucleus lies in the middle of each
        assert (square[30:34, 30:34, 2] > square[30:34, 30:34, 1] + 40).all()


def test_center_only_keeps_the_field_as_one_image(folder):
    assert found(folder, center_only=True).names == ("field.png", "one.png")


def test_field_without_cells_is_reported(folder):
    Image.fromarray(draw_field(white=())).save(folder / "empty.png")
    assert any("without a white cell: empty.png" in note for note in found(folder).notes)
    for name in ("field.png", "one.png"):
        (folder / name).unlink()
    with pytest.raises(ValueError, match=r"empty\.png"):
        found(folder)


def test_damaged_field_is_reported_when_read(folder):
    data = (folder / "field.png").read_bytes()
    (folder / "field.png").write_bytes(data[: len(data) // 2])
    images = found(folder)
    assert images.names == ("field.png", "one.png")
    (block,) = read_blocks(images, Geometry(64, 3), 1)
    assert "field.png" in block.faults[0]


def test_predict_reports_fields_of_view(folder, tmp_path, capsys):
    model, out = str(shipped("spaces/wbc/toy_model")), tmp_path / "out.csv"
    arguments = ["predict", model, str(folder), "--um-per-px", str(UM_PER_PX)]
    assert main([*arguments, "--out", str(out)]) == 0
    with out.open(newline="") as file:
        names = [row["image_id"] for row in csv.DictReader(file)]
    assert names == ["field.png#1", "field.png#2", "one.png"]
    assert "fields of view" in capsys.readouterr().out


def test_small_frames_are_unchanged(tmp_path):
    pixels = np.full((360, 360, 3), 200, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "frame.png")
    assert found(tmp_path).names == ("frame.png",)


def test_layout_adds_patient_and_skips_other_folders(tmp_path, capsys):
    cell = Image.fromarray(draw_field((30.0, 30.0), ((15.0, 15.0),)))
    for name in ("P_1/Unsigned slides/a.png", "P_2/Unsigned slides/a.png", "P_2/Signed/a.png"):
        (tmp_path / "x" / name).parent.mkdir(parents=True)
        cell.save(tmp_path / "x" / name)
    model, out = str(shipped("spaces/wbc/toy_model")), tmp_path / "out.csv"
    arguments = ["predict", model, str(tmp_path / "x"), "--um-per-px", str(UM_PER_PX)]
    arguments += ["--layout", "{patient}/Unsigned slides"]
    assert main([*arguments, "--out", str(out)]) == 0
    with out.open(newline="") as file:
        rows = [(row["image_id"], row["patient"]) for row in csv.DictReader(file)]
    assert rows == [(f"{who}/Unsigned slides/a.png", who) for who in ("P_1", "P_2")]
    assert "1 images outside the layout" in capsys.readouterr().out
    other = tmp_path / "out.parquet"
    assert main([*arguments, "--out", str(other), "--format", "parquet"]) == 0
    assert pq.read_table(other)["patient"].to_pylist() == ["P_1", "P_2"]
    with pytest.raises(ValueError, match="lies in the layout"):
        found(tmp_path / "x", layout="{patient}/Elsewhere")
