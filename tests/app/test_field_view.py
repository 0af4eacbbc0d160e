"""A field of view on the page: its cells are found, numbered, counted, and never one cell."""

import re
import resource

import numpy as np
import pytest
from PIL import Image
from support.fields import UM_PER_PX, draw_field

from hf_wbc.app.endpoints import found_cells
from hf_wbc.app.field_cells import box_in_field, cells_of_field, cut_out
from hf_wbc.app.field_view import slide_fields_html
from hf_wbc.app.limits import Limits
from hf_wbc.app.one_cell import OneCell
from hf_wbc.app.service import PageModel, Service
from hf_wbc.app.sessions import Sessions
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.uploads import UploadedFile, UploadedImage, Uploads, read_uploads
from hf_wbc.inference.cell_prediction import is_field
from hf_wbc.inference.predictor import Predictor
from hf_wbc.shipped import shipped

CELLS = ((14.0, 16.0), (45.0, 26.0), (55.0, 30.0))


@pytest.fixture(scope="module")
def service():
    toy = Predictor.load(str(shipped("spaces/wbc/toy_model")), runtime="torch")
    return Service(PageModel.loaded("toy", toy))


@pytest.fixture(scope="module")
def field():
    return UploadedImage("field.png", draw_field(white=CELLS))


@pytest.fixture(scope="module")
def single():
    return UploadedImage("one.png", draw_field((30.0, 30.0), ((15.0, 15.0),), seed=3))


def read(service, slide, scale=UM_PER_PX):
    return slide.answered(service.read(slide, scale))


def added(*pictures, limits=None):
    return Slide().added(Uploads(pictures), limits or Limits())


def test_crops_are_centered_on_cells(field):
    cells = cells_of_field(field, UM_PER_PX)
    found = [(cell.origin.x_px * UM_PER_PX, cell.origin.y_px * UM_PER_PX) for cell in cells]
    assert np.allclose(sorted(found), sorted(CELLS), atol=0.8)
    assert all(cell.pixels.shape == (250, 250, 3) for cell in cells)
    assert cut_out(cells[0].origin, 0.05).pixels.shape == (500, 500, 3)
    left, top, right, bottom = box_in_field(cells[0].origin, UM_PER_PX)
    assert (right - left, bottom - top) == (250, 250)


def test_field_in_sample_is_replaced_by_its_cells(service, field, single):
    slide = read(service, added(single, field))
    assert [case.number for case in slide.cases] == [1, 2, 3, 4]
    assert [case.picture.whole.name for case in slide.cases] == ["one.png", *["field.png"] * 3]
    assert not any(is_field(case.prediction.warnings) for case in slide.cases)
    more = slide.added(Uploads((field,)), Limits())
    assert "identical" in more.refused[0].why
    other = UploadedImage("b.png", draw_field((30.0, 30.0), ((15.0, 15.0),), seed=4))
    assert slide.added(Uploads((other,)), Limits()).waiting[0].number == 5
    assert slide.num_bytes == field.pixels.nbytes + single.pixels.nbytes


def test_corrections_survive_change_of_scale(service, field):
    slide = read(service, added(field)).corrected(2, 3)
    again = read(service, slide, 0.09)
    assert [case.number for case in again.cases] == [1, 2, 3]
    assert [case.corrected for case in again.cases] == [None, 3, None]
    assert all(case.picture.pixels.shape[0] == round(25 / 0.09) for case in again.cases)
    places = [[case.picture.origin.x_px for case in each.cases] for each in (slide, again)]
    assert places[0] == places[1]


def test_scale_is_estimated_from_field(service, field):
    slide = read(service, added(field), None)
    assert slide.um_per_px == pytest.approx(UM_PER_PX, rel=0.06)
    assert len(slide.cases) == 3
    assert slide.estimate.source == "red cells"
    again = read(service, slide, None)  # of the whole field, not of its crops
    assert again.um_per_px == slide.um_per_px


def test_sample_respects_cell_limit(service, field, single):
    small = Service(service.own, limits=Limits(num_cells=3))
    slide = read(small, added(single, field, limits=small.limits))
    assert len(slide.cases) == 3
    assert [one.name for one in slide.refused] == ["field.png"]
    roomy = Service(service.own, limits=Limits(num_cells=4))
    slide = read(roomy, added(single, field, limits=roomy.limits))
    assert len(slide.cases) == 4 and not slide.refused


def test_field_without_cells_has_no_class(service):
    empty = UploadedImage("empty.png", draw_field(white=()))
    slide = read(service, added(empty))
    (case,) = slide.cases
    assert case.prediction.rejected
    assert slide_fields_html(slide) == ""


def test_each_box_names_its_cell(service, field, single):
    slide = read(service, added(single, field))
    html = slide_fields_html(slide)
    boxes = re.findall(r'data-box="(\d+)"', html)
    assert boxes == re.findall(r'data-shown="(\d+)"', html) == ["2", "3", "4"]
    assert html.count("another cell lies in the crop") == 2
    lefts = [float(each) for each in re.findall(r"left:([\d.]+)%", html)]
    middles = sorted(each + 100 * 7 / 64 for each in lefts)
    assert middles == pytest.approx(sorted(100 * x / 64 for x, _ in CELLS), abs=3)
    corrected = slide.corrected(2, 0)
    assert "basophil" in slide_fields_html(corrected)


def test_small_boxes_have_their_numbers_beside_them(service, field):
    wide = UploadedImage("wide.png", np.tile(field.pixels, (1, 8, 1)))
    classes = [
        re.search(r'class="wbc field-view( dense)?"', slide_fields_html(read(service, added(one))))
        for one in (field, wide)
    ]
    assert [found.group(1) for found in classes] == [None, " dense"]


def test_cells_are_numbered_field_by_field(service, field, single):
    other = UploadedImage("other.png", draw_field(white=CELLS[:2], seed=7))
    slide = read(service, added(field, other))
    names = [(case.number, case.picture.whole.name) for case in slide.cases]
    assert names == [*((n, "field.png") for n in (1, 2, 3)), (4, "other.png"), (5, "other.png")]
    html = slide_fields_html(slide)
    assert "5 cells found in 2 fields" in html and html.count("field-box") == 5
    kept = slide.corrected(4, 0).added(Uploads((single,)), Limits())
    more = read(service, kept)
    assert [case.number for case in more.cases] == [1, 2, 3, 4, 5, 6]
    assert more.cases[3].corrected == 0


def test_fields_of_two_microscopes_are_named(service, field):
    other = UploadedImage("other.png", draw_field(um_per_px=0.17, seed=9))
    more = [UploadedImage(f"{n}.png", draw_field(seed=n)) for n in (1, 2)]
    slide = read(service, added(field, *more, other), None)
    (note,) = slide.scale_notes
    assert "other.png" in note and "field.png" not in note
    assert read(service, added(field), None).scale_notes == ()


def test_one_cell_tab_shows_field_and_found_cells(service, field, single):
    tab = OneCell(service, Sessions(service.limits))
    html = tab.read(Uploads((field,)), str(UM_PER_PX), "somebody")
    assert "3 cells found in field.png" in html
    assert html.count("field-box") == 3
    assert "field-box" not in tab.read(Uploads((single,)), str(UM_PER_PX), "somebody")


def test_found_cells_returns_cells_and_positions(service, field, single):
    (prediction,) = service.predict_pictures([field], UM_PER_PX)
    cells = found_cells(service, field, prediction)
    assert [(cell["field"], cell["um_per_px"]) for cell in cells] == [("field.png", UM_PER_PX)] * 3
    assert sorted(cell["x_px"] for cell in cells) == pytest.approx([140, 450, 550], abs=8)
    (prediction,) = service.predict_pictures([single], UM_PER_PX)
    assert found_cells(service, single, prediction) is None


@pytest.mark.slow
@pytest.mark.ci
def test_field_of_100_megapixels_is_read_found_and_shown(service, tmp_path):
    tile = draw_field(white=())
    cells = draw_field(white=CELLS)
    pixels = np.tile(tile, (8662 // len(tile), 11544 // tile.shape[1], 1))
    places = [(0, 0), (pixels.shape[0] - len(tile), pixels.shape[1] - tile.shape[1])]
    for top, left in places:
        pixels[top : top + len(tile), left : left + tile.shape[1]] = cells
    Image.fromarray(pixels).save(tmp_path / "large.jpg", quality=95)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    uploads = read_uploads([UploadedFile("large.jpg", tmp_path / "large.jpg")])
    assert not uploads.refused
    slide = read(service, Slide().added(uploads, Limits()), None)
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert slide.um_per_px == pytest.approx(UM_PER_PX, rel=0.05)
    assert len(slide.cases) == len(places) * len(CELLS)
    assert slide_fields_html(slide).count("data-box=") == len(slide.cases)
    assert max(case.picture.pixels.size for case in slide.cases) < 2**19
    assert memory < 2 * pixels.nbytes  # the mapped pixels are a half of it
