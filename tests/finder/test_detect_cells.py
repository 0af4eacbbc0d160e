"""The white cells of drawn and real fields."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage
from support.fields import UM_PER_PX, draw_field

from hf_wbc.data.image_io import decode_rgb
from hf_wbc.finder.boxes import find_box_files, match_boxes, read_boxes, total
from hf_wbc.finder.detect_cells import find_cells

CELLS = ((12.0, 14.0), (40.0, 12.0), (30.0, 36.0))


def places(cells, um_per_px=UM_PER_PX):
    return sorted((cell.x_px * um_per_px, cell.y_px * um_per_px) for cell in cells)


@pytest.mark.parametrize("um_per_px", [0.07, 0.1, 0.25, 0.5])
def test_every_drawn_cell_is_found_with_position_and_size(um_per_px):
    field = draw_field(white=CELLS, um_per_px=um_per_px)
    found = find_cells(field, um_per_px)
    assert np.allclose(places(found, um_per_px), sorted(CELLS), atol=0.8)
    assert all(abs(cell.nucleus_um - 9.0) < 1.2 for cell in found)


def test_red_cells_are_not_white_cells():
    assert find_cells(draw_field(white=()), UM_PER_PX) == []


def test_blank_field_has_no_cells():
    assert find_cells(np.full((300, 400, 3), 200, np.uint8), UM_PER_PX) == []


def test_touching_nuclei_are_two_overlapping_cells():
    found = find_cells(draw_field(white=((25.0, 24.0), (33.5, 24.0))), UM_PER_PX)
    assert len(found) == 2
    assert all("overlapping" in cell.flags for cell in found)


def test_cells_at_border_are_flagged():
    whole, padded, clipped = (32.0, 24.0), (8.5, 36.0), (60.0, 8.0)
    found = find_cells(draw_field(white=(whole, padded, clipped)), UM_PER_PX)
    flags = {round(cell.x_px * UM_PER_PX / 10): cell.flags for cell in found}
    assert flags[3] == ()
    assert flags[1] == ("padded",)
    assert "clipped" in flags[6]


def test_dense_nuclei_are_flagged_crowded():
    marrow = [(x, y) for x in range(7, 60, 11) for y in range(7, 45, 11)]
    found = find_cells(draw_field(white=marrow), UM_PER_PX)
    assert len(found) > 10
    assert all("crowded" in cell.flags for cell in found)


def test_scale_bar_and_writing_are_not_cells():
    image = Image.fromarray(draw_field(white=CELLS))
    pen = ImageDraw.Draw(image)
    for color, top in (("black", 390), ("blue", 420), ("magenta", 450)):
        pen.rectangle((430, top, 630, top + 12), fill=color)
        pen.text((430, top - 18), "10 um", fill=color)
    pen.rectangle((50, 70, 200, 220), outline="blue", width=5)
    assert np.allclose(places(find_cells(np.asarray(image), UM_PER_PX)), sorted(CELLS), atol=0.8)


def test_tiling_does_not_change_the_cells(monkeypatch):
    cells = ((20.0, 20.0), (60.0, 30.0), (100.0, 20.0), (85.0, 50.0))
    field = draw_field((120.0, 70.0), cells)
    whole = find_cells(field, UM_PER_PX)
    monkeypatch.setattr("hf_wbc.finder.detect_cells.TILE_UM", 60.0)
    parts = find_cells(field, UM_PER_PX)
    assert len(whole) == len(parts) == 4
    assert np.allclose(places(whole), places(parts), atol=0.3)


def test_background_tile_has_no_cells():
    """The stain is weighed against each tile's own background."""
    field = draw_field((60.0, 60.0), ())
    field[:, 300:] = ndimage.gaussian_filter(field[:, 300:], (40, 40, 0))
    assert find_cells(field, UM_PER_PX) == []


def test_cells_of_public_test_fields_are_found(shared):
    """The whole test half is in tests/bench/find_cells.py; here every eighth field of it."""
    folder = shared / "data/bccd_fields"
    matches = []
    files = sorted(find_box_files(folder / "Annotations").items())
    for name, path in [each for each in files if int(each[0][-5:]) % 2][::8]:
        pixels = decode_rgb((folder / "JPEGImages" / f"{name}.jpg").read_bytes(), name)
        found = [(cell.x_px, cell.y_px) for cell in find_cells(pixels, 0.078)]
        boxes = read_boxes(path, (pixels.shape[1], pixels.shape[0]))
        matches.append(match_boxes(found, boxes, 0.078))
    each = total(matches)
    assert each.num_boxes > 15
    assert each.recall > 0.9
    assert each.precision > 0.85
