"""25 um have the same extent in every laboratory, and colors follow the Beer-Lambert law."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from hf_wbc.data.crop import crop_um
from hf_wbc.toy.acquisition import ACEVEDO, MATEK, MLL23, ToyScanner, acquire
from hf_wbc.toy.canvas import FIELD_UM, PX_PER_UM, Dye, Plane, axes_um, blank, coverage
from hf_wbc.toy.smear import draw_field

SCANNERS = {"acevedo": ACEVEDO, "matek": MATEK, "mll": MLL23}
each_scanner = pytest.mark.parametrize("scanner", SCANNERS.values(), ids=SCANNERS)


def ideal(scanner: ToyScanner) -> ToyScanner:
    """Return the scanner without noise, jitter, and sharpening."""
    return replace(
        scanner,
        stain_spread=0.0,
        light_spread=0.0,
        blur_um=(0.1, 0.1),
        sharpen=0.0,
        noise=0.0,
        fringe_um=0.0,
    )


def disc(x_um: float, y_um: float, radius_um: float, dye: Dye = Dye.CHROMATIN) -> Plane:
    field = blank(round(FIELD_UM * PX_PER_UM))
    x, y = axes_um(field.shape[1])
    field[dye] = coverage(np.float32(radius_um) - np.hypot(x - x_um, y - y_um))
    return field


def darkness(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the absorbed share of green light, from 0 in the background to 1 at the darkest."""
    green = pixels[..., 1].astype(float)
    return (green.max() - green) / np.ptp(green)


@each_scanner
@pytest.mark.parametrize("place", [(0.0, 0.0), (3.0, -2.0), (-5.5, 4.25)])
def test_positions_and_sizes_in_um_are_preserved(
    scanner: ToyScanner, place: tuple[float, float]
) -> None:
    pixels = acquire(disc(*place, 4.0), ideal(scanner), np.random.default_rng(0))
    dark = darkness(pixels) > 0.5
    y, x = np.nonzero(dark)
    height, width = dark.shape
    middle = np.array([x.mean() + 0.5 - width / 2, y.mean() + 0.5 - height / 2])
    assert middle * scanner.um_per_px == pytest.approx(place, abs=0.03)
    area_um2 = dark.sum() * scanner.um_per_px**2
    assert area_um2 == pytest.approx(np.pi * 16, rel=0.02)


def test_one_field_looks_alike_in_crops_of_all_scanners() -> None:
    field = draw_field("eosinophil", np.random.default_rng(2))
    crops = []
    for scanner in SCANNERS.values():
        shown = replace(ideal(scanner), stain=ACEVEDO.stain, light=(200.0, 200.0, 200.0))
        crop = crop_um(acquire(field, shown, np.random.default_rng(0)), scanner.um_per_px)
        side = len(crop)
        grid = ((np.arange(50) + 0.5) * side / 50).astype(int)
        crops.append(crop[np.ix_(grid, grid)].astype(float).ravel())
    assert np.corrcoef(crops)[np.triu_indices(3, 1)].min() > 0.97


@each_scanner
def test_light_absorption_follows_the_stain(scanner: ToyScanner) -> None:
    for dye in Dye:
        pixels = acquire(disc(0, 0, 6.0, dye), ideal(scanner), np.random.default_rng(0))
        height, width, _ = pixels.shape
        wanted = np.array(scanner.light) * 10 ** -np.array(scanner.stain[dye])
        assert pixels[height // 2, width // 2] == pytest.approx(wanted, rel=0.03, abs=2)


@each_scanner
def test_empty_field_is_light_with_noise(scanner: ToyScanner) -> None:
    field = blank(round(scanner.view_um * PX_PER_UM))
    bright = replace(scanner, light=(200.0, 200.0, 200.0), light_spread=0.0)
    pixels = acquire(field, bright, np.random.default_rng(0)).astype(float)
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    middle = pixels[height - 30 : height + 30, width - 30 : width + 30]
    assert middle.mean() == pytest.approx(200, abs=1)
    assert middle.std() == pytest.approx(scanner.noise * (200 / 240) ** 0.5, abs=0.35)


@each_scanner
def test_nothing_wraps_around_the_frame(scanner: ToyScanner) -> None:
    half = scanner.view_um / 2
    field = blank(round(scanner.view_um * PX_PER_UM))
    x, _ = axes_um(field.shape[1])
    field[Dye.CHROMATIN] = (x > half - 3).astype(np.float32) + 0 * field[0]
    pixels = acquire(field, ideal(scanner), np.random.default_rng(0))
    far_side = pixels[5:-5, :20].astype(int)
    assert np.ptp(far_side, axis=(0, 1)).max() < 10


def test_only_second_laboratory_is_sometimes_out_of_focus() -> None:
    def edge(scanner: ToyScanner) -> NDArray[np.float64]:
        """Return the steepest slope of a disc's edge on each of 20 slides, per um."""
        still = replace(ideal(scanner), blur_um=scanner.blur_um)
        return np.array(
            [
                np.abs(np.diff(darkness(acquire(disc(0, 0, 4), still, rng)), axis=1)).max()
                / scanner.um_per_px
                for rng in map(np.random.default_rng, range(20))
            ]
        )

    slopes = {name: edge(scanner) for name, scanner in SCANNERS.items()}
    assert np.ptp(slopes["matek"]) > 2 * max(np.ptp(slopes["acevedo"]), np.ptp(slopes["mll"]))


def test_field_smaller_than_the_view_is_refused() -> None:
    with pytest.raises(ValueError, match=r"field of 100 px does not contain .* 300 px.*view_um"):
        acquire(blank(100), ACEVEDO, np.random.default_rng(0))
