"""Whole slides: searched tile by tile like fields, resumable, with clear errors for damage."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support.fields import UM_PER_PX, draw_field
from support.slides import write_dicom_slide, write_empty_slide, write_pyramid

from hf_wbc.finder.detect_cells import candidates, tiles
from hf_wbc.finder.find_folder import FindOptions, find_to_folder
from hf_wbc.finder.slides import is_slide, open_slide

pytest.importorskip("openslide", reason="the extra slides is not installed")
MOST_GROWTH = 1.15
"""Limit on the memory of a search relative to that of a slide a fourth as large; a search that kept
the pixels would take 1.3 times as much."""
CELLS = ((14.0, 16.0), (45.0, 26.0), (80.0, 20.0), (100.0, 40.0))


@pytest.fixture(scope="module")
def pixels():
    return draw_field((120.0, 60.0), CELLS)


@pytest.fixture(scope="module")
def slide(pixels, tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    write_pyramid(path, pixels)
    return path


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr("hf_wbc.finder.detect_cells.TILE_UM", 40.0)


def places(result):
    (field,) = result.fields
    return sorted((cell.x_px * UM_PER_PX, cell.y_px * UM_PER_PX) for cell in field.cells)


def test_pyramid_reads_as_its_pixels(slide, pixels):
    assert is_slide(slide)
    with open_slide(slide, "slide.tif") as opened:
        assert (opened.height, opened.width) == pixels.shape[:2]
        assert np.array_equal(opened.read(100, 250, 400, 900), pixels[100:400, 250:900])


def test_ordinary_tiff_is_a_field(pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "field.tif")
    assert not is_slide(tmp_path / "field.tif")


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.slow
@pytest.mark.ci
def test_slide_has_same_cells_as_equal_field(slide, pixels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "field.png")
    of_slide = find_to_folder(slide, tmp_path / "a")
    of_field = find_to_folder(tmp_path / "field.png", tmp_path / "b")
    assert np.allclose(places(of_slide), sorted(CELLS), atol=0.8)
    assert np.allclose(places(of_slide), places(of_field), atol=0.3)
    crops = [sorted((tmp_path / name / "crops").glob("*/*.png")) for name in "ab"]
    assert len(crops[0]) == len(crops[1]) == 4
    for one, other in zip(*crops, strict=True):
        assert np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other)))


@pytest.mark.usefixtures("small_tiles")
def test_interrupted_slide_resumes_with_next_tile(slide, tmp_path, monkeypatch):
    import hf_wbc.finder.find_folder as room

    searched = []
    search = room.candidates

    def interrupted(read, size, um_per_px, tile):
        if len(searched) == 3:
            raise KeyboardInterrupt
        searched.append(tile)
        return search(read, size, um_per_px, tile)

    monkeypatch.setattr(room, "candidates", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find_to_folder(slide, tmp_path / "out", FindOptions(UM_PER_PX))
    first, searched[:] = list(searched), []
    monkeypatch.setattr(
        room, "candidates", lambda *args: (searched.append(args[3]), search(*args))[1]
    )
    result = find_to_folder(slide, tmp_path / "out", FindOptions(UM_PER_PX))
    assert len(places(result)) == 4
    assert searched
    assert not set(first) & set(searched)


def test_dicom_series_is_one_slide_at_its_own_scale(pixels, tmp_path):
    pytest.importorskip("pydicom", reason="writing DICOM needs the extra test")
    folder = tmp_path / "series"
    first = write_dicom_slide(folder, pixels, UM_PER_PX)
    with open_slide(first, first.name) as opened:
        assert opened.um_per_px == pytest.approx(UM_PER_PX)
        assert np.array_equal(opened.read(100, 250, 400, 900), pixels[100:400, 250:900])
    result = find_to_folder(folder, tmp_path / "out")
    assert np.allclose(places(result), sorted(CELLS), atol=0.8)
    assert any("level_1.dcm" in note and "same slide" in note for note in result.notes)
    cut = tmp_path / "cut" / first.name
    cut.parent.mkdir()
    cut.write_bytes(first.read_bytes()[:300_000])
    with pytest.raises(ValueError, match=r"level_0\.dcm.*(truncated|damaged)"):
        find_to_folder(cut, tmp_path / "other")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_slide_is_reported(slide, tmp_path, share):
    data = slide.read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match=r"cut\.tif.*(truncated|damaged)"):
        find_to_folder(tmp_path / "cut.tif", tmp_path / "out", FindOptions(UM_PER_PX))


def test_non_slide_file_with_slide_suffix_is_reported(tmp_path):
    (tmp_path / "a.svs").write_bytes(b"no slide")
    with pytest.raises(ValueError, match=r"a\.svs: not a whole slide"):
        find_to_folder(tmp_path, tmp_path / "out", FindOptions(UM_PER_PX))


@pytest.mark.parametrize(
    ("side", "tile", "levels", "reason"),
    [
        (300_000, 4096, 2, "90 gigapixels"),
        (100_000, 65_536, 2, "65536x65536"),
        (4096, 256, 400, "400 resolutions"),
    ],
)
def test_bomb_is_refused_before_it_is_read(tmp_path, side, tile, levels, reason):
    write_empty_slide(tmp_path / "bomb.tif", side, tile, levels)
    with (
        pytest.raises(ValueError, match=rf"bomb\.tif.*{reason}"),
        open_slide(tmp_path / "bomb.tif", "bomb.tif"),
    ):
        pass


def test_dicom_bomb_is_refused_before_it_is_read(pixels, tmp_path):
    pydicom = pytest.importorskip("pydicom", reason="writing DICOM needs the extra test")
    path = write_dicom_slide(tmp_path / "series", pixels[:256, :256], UM_PER_PX)
    for fields, reason in (
        ({"TotalPixelMatrixRows": 300_000, "TotalPixelMatrixColumns": 300_000}, "90 gigapixels"),
        ({"Rows": 60_000, "Columns": 60_000, "NumberOfFrames": 1}, "60000x60000"),
    ):
        found = pydicom.dcmread(path)
        found.update(fields)
        bomb = tmp_path / reason / "bomb.dcm"
        bomb.parent.mkdir()
        found.save_as(bomb)
        with pytest.raises(ValueError, match=reason), open_slide(bomb, "bomb.dcm"):
            pass


def test_whole_smear_of_mostly_empty_glass_is_no_bomb(tmp_path):
    write_empty_slide(tmp_path / "smear.tif", 134_000)  # as many pixels as 150,000 x 120,000
    with open_slide(tmp_path / "smear.tif", "smear.tif") as opened:
        assert opened.height * opened.width > 150_000 * 120_000 * 0.99
        assert (opened.read(50_000, 50_000, 50_100, 50_200) == 255).all()
    write_empty_slide(tmp_path / "larger.tif", 300_000)
    with open_slide(tmp_path / "larger.tif", "larger.tif", max_gigapixels=100) as opened:
        assert opened.height == 300_000


def test_parts_without_pixels_are_skipped(tmp_path, monkeypatch):
    """The stain of a part that was not scanned is not computed."""
    write_empty_slide(tmp_path / "empty.tif", 4000, 256)
    monkeypatch.setattr("hf_wbc.finder.detect_cells.optical_density", None)
    with open_slide(tmp_path / "empty.tif", "empty.tif") as opened:
        size = opened.height, opened.width
        for tile in tiles(*size, 0.25):
            assert candidates(opened.read, size, 0.25, tile) == []


def test_tiles_of_very_fine_scales_are_bounded():
    assert max(bottom - top for top, _, bottom, _ in tiles(50_000, 50_000, 0.001)) <= 8000


def peak_megabytes(path):
    """Search a slide in a process of its own; returns the number of cells and its peak memory."""
    search = (
        "import resource, sys; from pathlib import Path; "
        "from hf_wbc.finder import detect_cells; "
        "from hf_wbc.finder.find_folder import FindOptions, find_to_folder; "
        "detect_cells.TILE_UM = 100.0; "
        "path = Path(sys.argv[1]); "
        "found = find_to_folder(path, path.with_suffix('.out'), FindOptions(float(sys.argv[2]))); "
        "print(found.num_cells, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    command = [sys.executable, "-c", search, str(path), str(UM_PER_PX)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    num_cells, megabytes = map(int, done.stdout.split())
    return num_cells, megabytes


@pytest.mark.slow
@pytest.mark.ci
def test_memory_does_not_grow_with_the_slide(tmp_path, pixels):
    """Slides of 6 and 23 megapixels, 17 and 69 MB decoded, in tiles of 1 megapixel."""
    found = []
    for repeats in ((4, 2, 1), (8, 4, 1)):
        path = tmp_path / f"{repeats[0]}.tif"
        write_pyramid(path, np.tile(pixels, repeats))
        num_cells, megabytes = peak_megabytes(path)
        assert num_cells == len(CELLS) * repeats[0] * repeats[1]
        found.append(megabytes)
    print(f"peak memory: {found} MB")
    assert found[1] < MOST_GROWTH * found[0]
