"""The scale comes from red cells of known size, else from nuclei, and states its evidence."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.fields import draw_field

from hf_wbc.data.nucleus import Nucleus, shrunk
from hf_wbc.data.red_cells import red_cell_diameters, typical_diameter
from hf_wbc.data.scale import (
    DEFAULT_UM_PER_PX,
    NUCLEUS_UM,
    ScaleEstimate,
    estimate_scale,
    scale_from_nuclei,
)
from hf_wbc.inference.image_source import find_image_folder
from hf_wbc.inference.options import PredictOptions

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
GROUND, RED_CELL, NUCLEUS = (240, 225, 215), (205, 150, 150), (110, 60, 140)


def smear(
    cells: list[tuple[float, float, float]],
    nucleus_px: float = 0,
    side: int = 400,
    ground: tuple[int, int, int] = GROUND,
) -> np.ndarray:
    """Draw red cells with pale centers at (x, y, diameter), and a nucleus in the middle."""
    pixels = np.full((side, side, 3), GROUND, np.float64)
    y, x = np.mgrid[:side, :side]
    for cx, cy, diameter in cells:
        far = np.hypot(x - cx, y - cy)
        pixels[far < diameter / 2] = RED_CELL
        pixels[far < diameter / 8] = GROUND
    pixels[np.hypot(x - side / 2, y - side / 2) < nucleus_px / 2] = NUCLEUS
    noise = np.random.default_rng(0).normal(0, 3, pixels.shape)
    return (pixels * np.array(ground) / GROUND + noise).clip(0, 255).round().astype(np.uint8)


CORNERS = [(60, 60, 70), (340, 60, 74), (60, 340, 66), (340, 340, 70)]


@pytest.mark.parametrize("ground", [GROUND, (255, 225, 150), (190, 205, 235)])
def test_red_cells_are_measured_on_any_background(ground: tuple[int, int, int]) -> None:
    found = sorted(red_cell_diameters(smear(CORNERS, 95, ground=ground)))
    assert found == pytest.approx([66, 70, 70, 74], rel=0.04)


def test_large_field_is_measured_accurately() -> None:
    places = [(x, y, 62) for x in range(100, 900, 200) for y in range(100, 900, 200)]
    found = red_cell_diameters(smear(places, side=1000))
    assert len(found) == len(places) and np.median(found) == pytest.approx(62, rel=0.03)


def test_very_large_field_is_measured_in_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    tile = draw_field(white=())
    field = np.tile(tile, (2, 3, 1))
    expected = red_cell_diameters(field)
    monkeypatch.setattr("hf_wbc.data.red_cells.LARGEST_SIDE", 1800)
    monkeypatch.setattr("hf_wbc.data.red_cells.SQUARE_SIDE", 700)
    found = red_cell_diameters(field)
    assert 30 < len(found) < 2 * 700**2 / field[..., 0].size * len(expected)
    assert abs(np.median(found) / np.median(expected) - 1) < 0.03


@pytest.mark.parametrize("step", [1.0, 4.0, 2.7])
def test_strips_of_a_large_image_are_reduced_alike(
    step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = draw_field()
    whole = shrunk(pixels, step)
    monkeypatch.setattr("hf_wbc.data.nucleus.STRIP_PIXELS", 10_000)
    assert np.abs(shrunk(pixels, step) - whole).mean() < 0.1
    assert shrunk(pixels, step).shape == whole.shape


@pytest.mark.parametrize(
    "cell",
    [
        [(0, 200, 70)],
        [(200, 200, 70), (245, 200, 70)],
        [(200, 200, 9)],
    ],
    ids=["clipped", "overlapping", "a platelet"],
)
def test_incomplete_cells_and_platelets_are_ignored(cell: list[tuple[float, float, float]]) -> None:
    assert red_cell_diameters(smear(cell)) == []


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((400, 400, 3), 255, np.uint8),
        np.zeros((400, 400, 3), np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.random.default_rng(0).integers(225, 240, (300, 400, 3), np.uint8),
        smear([], 95),
        np.where(np.hypot(*np.mgrid[-100:100, -100:100])[..., None] < 45, NUCLEUS, 235).astype(
            np.uint8
        ),
    ],
    ids=["white", "black", "one pixel", "noise", "a white cell", "a nucleus without noise"],
)
def test_image_without_red_cells_gives_no_diameters(pixels: np.ndarray) -> None:
    assert red_cell_diameters(pixels) == []


def test_platelets_and_clumps_do_not_affect_the_median() -> None:
    assert typical_diameter([70, 72, 74, 20, 22, 18, 25, 130]) == (72, 3)
    assert typical_diameter([]) is None


def test_red_cells_take_precedence_and_disagreement_is_reported() -> None:
    found = estimate_scale([smear(CORNERS, 140)])  # 14 um: a blast
    assert found.source == "red cells" and found.num_red_cells == 4
    assert found.um_per_px == pytest.approx(7.2 / 70, rel=0.03)
    assert found.from_nuclei == pytest.approx(9.5 / 140, rel=0.1) and found.is_contradicted
    said = " ".join(found.sentences)
    assert "Fewer than 30" in said and "The nuclei suggest" in said and "Microcytosis" in said


def test_enough_consistent_red_cells_need_no_warning() -> None:
    found = ScaleEstimate(0.1, "red cells", 48, 0.11)
    assert len(found.sentences) == 1 and "48 red cells" in found.sentences[0]


def test_nuclei_are_the_fallback_and_then_the_default() -> None:
    found = estimate_scale([smear(CORNERS[:2], 95)])
    assert found.source == "nuclei" and found.um_per_px == pytest.approx(0.1, rel=0.1)
    found = estimate_scale([np.full((300, 300, 3), 255, np.uint8)])
    assert found == ScaleEstimate(DEFAULT_UM_PER_PX, "default")
    assert "only assumed" in found.sentences[0]


def test_many_nuclei_are_better_than_one() -> None:
    sizes = NUCLEUS_UM * np.exp(np.random.default_rng(0).normal(0, 0.2, 60)) / 0.1
    nuclei = [Nucleus(200, 180, np.pi * (size / 2) ** 2) for size in sizes]
    assert scale_from_nuclei(nuclei) == pytest.approx(0.1, rel=0.1)
    assert scale_from_nuclei([None, None]) is None


def test_folder_scale_is_estimated_from_readable_images(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(smear(CORNERS, 95)).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    estimate = PredictOptions(estimate_scale=True)
    found = find_image_folder(str(tmp_path), estimate)
    assert found is not None and found.estimate is not None
    assert found.estimate.num_red_cells == 12 and len(found.names) == 4
    assert found.um_per_px == found.estimate.um_per_px == pytest.approx(7.2 / 70, rel=0.03)
    with pytest.raises(ValueError, match="choose one"):
        find_image_folder(str(tmp_path), PredictOptions(0.1, estimate_scale=True))
    empty = tmp_path / "empty"
    empty.mkdir()
    Image.fromarray(np.full((300, 300, 3), 255, np.uint8)).save(empty / "white.png")
    with pytest.raises(ValueError, match="cannot be estimated: 1 of its images"):
        find_image_folder(str(empty), estimate)


@pytest.mark.parametrize(
    ("folder", "um_per_px"), [("pbc_barcelona_a", 0.1), ("matek_lmu_mini", 1 / 13.8)]
)
def test_scale_of_twenty_real_images_is_recovered(folder: str, um_per_px: float) -> None:
    if not (SHARED / folder).is_dir():
        pytest.skip(f"{SHARED / folder} is absent")
    files = sorted(p for p in (SHARED / folder).rglob("*") if p.suffix in (".jpg", ".tiff"))
    images = [np.asarray(Image.open(p).convert("RGB")) for p in files[:: len(files) // 20][:20]]
    found = estimate_scale(images)
    assert found.source == "red cells"
    assert found.um_per_px == pytest.approx(um_per_px, rel=0.06)
