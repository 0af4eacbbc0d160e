"""Folders of fields to crops and tables, for all kinds of user input."""

import csv
import errno
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from support.fields import UM_PER_PX, draw_field

from hf_wbc.data.image_io import ImageFault
from hf_wbc.finder import find_folder
from hf_wbc.finder.field_source import list_fields, open_field
from hf_wbc.finder.find_folder import FindOptions, find_to_folder

CELLS = ((14.0, 16.0), (45.0, 26.0))


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    """Two fields of different cells."""
    folder = tmp_path_factory.mktemp("fields")
    Image.fromarray(draw_field(white=CELLS)).save(folder / "a.png")
    (folder / "day 2").mkdir()
    Image.fromarray(draw_field(white=CELLS[:1], seed=1)).save(folder / "day 2/b.bmp")
    return folder


@pytest.fixture(scope="module")
def found(fields, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "cells"
    return find_to_folder(fields, out, FindOptions(overlays=True))


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_each_cell_has_a_row_and_a_crop(found):
    cells = rows(found.out / "cells.csv")
    assert [row["field"] for row in cells] == ["a.png", "a.png", "day 2/b.bmp"]
    for row, (x, y) in zip(cells, (*CELLS, CELLS[0]), strict=True):
        um_per_px = float(row["um_per_px"])
        assert um_per_px == pytest.approx(UM_PER_PX, rel=0.06)
        place = float(row["x_px"]) * UM_PER_PX, float(row["y_px"]) * UM_PER_PX
        assert place == pytest.approx((x, y), abs=0.5)
        crop = np.asarray(Image.open(found.out / row["cell"]))
        assert crop.shape[0] == crop.shape[1] == round(25 / um_per_px)
        middle = crop[crop.shape[0] // 2, crop.shape[1] // 2].astype(int)
        assert middle[2] > middle[1] + 40  # the nucleus
    assert (found.out / "overlays/a.png.jpg").is_file()
    assert not found.out.with_name("cells.partial").exists()


def test_output_is_deterministic(fields, found):
    before = tree(found.out)
    find_to_folder(fields, found.out, FindOptions(overlays=True))
    assert tree(found.out) == before


def test_interrupted_call_resumes_to_same_bytes(fields, found, tmp_path):
    out = tmp_path / "cells"

    def stop(stage, done, total):
        if (stage, done) == ("find", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_to_folder(fields, out, FindOptions(overlays=True), on_progress=stop)
    assert not out.exists()
    find_to_folder(fields, out, FindOptions(overlays=True))
    assert tree(out) == tree(found.out)


@pytest.mark.parametrize("part", ["measured", "found"])
@pytest.mark.parametrize("rest", ["{", "{}", '{"diameters": 3, "cells": [7]}'])
def test_damaged_part_of_interrupted_work_is_made_again(fields, tmp_path, part, rest):
    out = tmp_path / "cells"
    options = FindOptions(UM_PER_PX)

    def stop(stage, done, total):
        if (stage, done) == ("find", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_to_folder(fields / "a.png", out, options, on_progress=stop)
    (damaged,) = out.with_name("cells.partial").glob(f"*/{part}/*.json")
    damaged.write_text(rest)
    assert find_to_folder(fields / "a.png", out, options).num_cells == len(CELLS)


def test_unreadable_field_is_tried_again(fields, tmp_path, monkeypatch):
    def fail(*_):
        raise ImageFault("a.png: a library is missing")

    with monkeypatch.context() as patched, pytest.raises(ValueError, match="library"):
        patched.setattr(find_folder, "measure_field", fail)
        find_to_folder(fields / "a.png", tmp_path / "out", FindOptions(UM_PER_PX))
    assert find_to_folder(fields / "a.png", tmp_path / "out", FindOptions(UM_PER_PX)).num_cells


def test_unrelated_folder_is_not_overwritten(fields, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match="something else"):
        find_to_folder(fields, tmp_path)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_duplicate_field_is_reported_and_counted_once(fields, tmp_path):
    folder = tmp_path / "fields"
    folder.mkdir()
    pixels = Image.open(fields / "a.png")
    pixels.save(folder / "a.png")
    pixels.save(folder / "copy.bmp")
    result = find_to_folder(folder, tmp_path / "out")
    assert result.num_cells == 2
    assert any("copy.bmp" in note and "a.png" in note for note in result.notes)


def test_fields_of_different_scale_are_reported(fields, tmp_path):
    folder = tmp_path / "fields"
    folder.mkdir()
    for number in range(3):
        Image.fromarray(draw_field(seed=number)).save(folder / f"{number}.png")
    Image.fromarray(draw_field(um_per_px=0.17, seed=9)).save(folder / "other.png")
    result = find_to_folder(folder, tmp_path / "out")
    assert any("other.png" in note and "0.png" not in note for note in result.notes)


def notes_of(pixels, tmp_path, um_per_px=UM_PER_PX):
    tmp_path.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (field,) = find_to_folder(tmp_path / "a.png", tmp_path / "o", FindOptions(um_per_px)).fields
    return " ".join(field.notes)


def test_problems_of_a_field_are_reported(tmp_path):
    assert notes_of(draw_field(), tmp_path / "good") == ""
    assert "no white cell" in notes_of(draw_field(white=()), tmp_path / "none")
    assert "empty" in notes_of(np.full((400, 500, 3), 220, np.uint8), tmp_path / "empty")
    blurred = ndimage.gaussian_filter(draw_field(white=CELLS), (18, 18, 0))
    assert "out of focus" in notes_of(blurred, tmp_path / "blurred")
    marrow = [(x, y) for x in range(7, 60, 11) for y in range(7, 45, 11)]
    assert "crowded" in notes_of(draw_field(white=marrow), tmp_path / "marrow")


@pytest.mark.parametrize("um_per_px", [0.01, 1.5, -1.0, float("nan")])
def test_impossible_scale_is_refused(fields, tmp_path, um_per_px):
    with pytest.raises(ValueError, match="um per pixel"):
        find_to_folder(fields, tmp_path / "out", FindOptions(um_per_px))
    assert not list(tmp_path.iterdir())


def test_bad_fields_are_reported_and_can_be_skipped(fields, tmp_path):
    folder = tmp_path / "fields"
    folder.mkdir()
    whole = (fields / "a.png").read_bytes()
    (folder / "a.png").write_bytes(whole)
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("no image")
    (folder / "note.txt").write_text("x")
    with pytest.raises(ValueError, match=r"cut\.png.*text\.jpg"):
        find_to_folder(folder, tmp_path / "out")
    result = find_to_folder(folder, tmp_path / "out", FindOptions(skip_bad=True))
    assert [field.name for field in result.fields] == ["a.png"]
    assert any("cut.png" in note for note in result.notes)
    assert any("note.txt" in note for note in result.notes)
    facts = json.loads((tmp_path / "out/find.json").read_text())
    assert facts["num_cells"] == 2


def test_field_that_nobody_may_read_is_named(tmp_path, monkeypatch):
    for name in ("a.png", "b.tif"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)

    def refuse(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for name in ("a.png", "b.tif"):
        with pytest.raises(ImageFault, match=rf"{name}: cannot be read \(Permission denied\)"):
            open_field(tmp_path, name).__enter__()


def test_gigapixel_field_is_refused_before_decoding(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "huge.png")
    data = (tmp_path / "huge.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", 40_000, 25_000) + data[24:29]
    checked = header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "huge.png").write_bytes(data[:12] + checked + data[33:])
    with pytest.raises(ValueError, match=r"huge\.png.*100 megapixels"):
        find_to_folder(tmp_path / "huge.png", tmp_path / "out", FindOptions(0.1))


def test_missing_or_empty_input_is_reported(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        find_to_folder(tmp_path / "none", tmp_path / "out")
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(ValueError, match=r"a\.doc"):
        find_to_folder(tmp_path, tmp_path.parent / "out")


@pytest.mark.parametrize("um_per_px", [0.05, 0.1, 0.2])
def test_without_red_cells_the_nuclei_give_the_scale(tmp_path, um_per_px):
    pixels = draw_field(white=CELLS, um_per_px=um_per_px, nucleus_um=9.5, num_red=0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    result = find_to_folder(tmp_path / "a.png", tmp_path / "out")
    assert result.fields[0].um_per_px == pytest.approx(um_per_px, rel=0.15)
    assert result.num_cells == len(CELLS)
    assert any("nuclei" in note and "red cells" in note for note in result.notes)


def test_without_any_cell_a_scale_is_needed(tmp_path):
    Image.fromarray(np.full((400, 500, 3), 220, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="--um-per-px"):
        find_to_folder(tmp_path / "a.png", tmp_path / "out")


def test_links_leaving_the_folder_are_reported(tmp_path):
    (tmp_path / "fields").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "fields/a.png").write_bytes(b"")
    (tmp_path / "fields/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "fields/again").symlink_to(tmp_path / "fields")
    _, names, others = list_fields(tmp_path / "fields")
    assert names == ("a.png",)
    assert any("more -> " in other for other in others)
    assert any("again -> " in other for other in others)


@pytest.mark.parametrize("has_links", [True, False], ids=["hard links", "no hard links"])
def test_cells_are_classified_on_any_file_system(tmp_path, monkeypatch, has_links):
    def refuse(*args):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if not has_links:  # exFAT, and many network file systems
        monkeypatch.setattr(os, "link", refuse)
    name = f"{'x' * 236}.png"  # as long as Linux allows beside the ending of an overlay
    Image.fromarray(draw_field(white=CELLS)).save(tmp_path / name)
    seen = []

    def classify(crops, um_per_px, work):
        seen.extend(path.name for path in sorted(crops.rglob("*.png")) if path.is_file())
        return {}

    options = FindOptions(UM_PER_PX, overlays=True)
    found = find_to_folder(tmp_path / name, tmp_path / "out", options, classify)
    assert len(seen) == found.num_cells == len(CELLS)
    assert (tmp_path / "out/overlays" / f"{name}.jpg").is_file()


def test_names_that_are_not_utf8_are_named_and_can_be_left_out(tmp_path):
    folder = tmp_path / "fields"
    folder.mkdir()
    Image.fromarray(draw_field(white=CELLS)).save(folder / "a.png")
    data = (folder / "a.png").read_bytes()
    for name in (b"caf\xe9.png", b"notes \xe9.txt"):
        Path(os.fsdecode(os.fsencode(folder / "x")[:-1] + name)).write_bytes(data)
    Path(os.fsdecode(os.fsencode(folder) + b"/loop \xe9")).symlink_to("..")
    with pytest.raises(ValueError, match=r"caf\\xe9\.png: its name is not text"):
        find_to_folder(folder, tmp_path / "out", FindOptions(UM_PER_PX))
    found = find_to_folder(folder, tmp_path / "out", FindOptions(UM_PER_PX, skip_bad=True))
    assert [field.name for field in found.fields] == ["a.png"]
    notes = " ".join(json.loads((found.out / "find.json").read_text("utf-8"))["notes"])
    assert all(name in notes for name in (r"caf\xe9.png", r"notes \xe9.txt", r"loop \xe9"))
