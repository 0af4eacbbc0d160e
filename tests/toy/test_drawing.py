"""Drawn cells show the differences between the eleven classes."""

from functools import cache

import numpy as np
import pytest
from scipy.ndimage import label

from hf_wbc.taxonomy import NAMES
from hf_wbc.toy.canvas import PX_PER_UM, Dye, noise
from hf_wbc.toy.drawing import Cell, draw_cell
from hf_wbc.toy.smear import draw_field

NUM = 12


@cache
def cells(cell_class: str) -> tuple[Cell, ...]:
    return tuple(draw_cell(cell_class, np.random.default_rng(i)) for i in range(NUM))


def mean_diameter_um(cell_class: str) -> float:
    return float(np.mean([2 * cell.radius_um for cell in cells(cell_class)]))


def nucleus_share(cell: Cell) -> float:
    return float(cell.nucleus.sum() / cell.body.sum())


def solidity(cell: Cell) -> float:
    """Return the nucleus area divided by that of its bounding box along its principal axes."""
    points = np.argwhere(cell.nucleus > 0.5).astype(float)
    points -= points.mean(0)
    along = points @ np.linalg.eigh(np.cov(points.T))[1]
    return float(len(points) / np.prod(np.ptp(along, axis=0) + 1))


def dye_in_body(cell_class: str, dye: Dye) -> float:
    """Return the mean amount of a dye in the cytoplasm."""
    amounts = []
    for cell in cells(cell_class):
        cytoplasm = cell.body * (1 - cell.nucleus)
        amounts.append((cell.dyes[dye] * cytoplasm).sum() / cytoplasm.sum())
    return float(np.mean(amounts))


@pytest.mark.parametrize("cell_class", NAMES)
def test_nucleus_lies_inside_cell_and_cell_inside_canvas(cell_class: str) -> None:
    for cell in cells(cell_class):
        assert (cell.nucleus <= cell.body + 1e-6).all()
        border = np.concatenate([cell.body[0], cell.body[-1], cell.body[:, 0], cell.body[:, -1]])
        assert not border.any() and np.isfinite(cell.dyes).all() and cell.dyes.min() >= 0
        assert 0.1 < nucleus_share(cell) < 0.95


@pytest.mark.parametrize("cell_class", NAMES)
def test_drawn_area_matches_stated_diameter(cell_class: str) -> None:
    for cell in cells(cell_class):
        area_um2 = cell.body.sum() / PX_PER_UM**2
        assert area_um2 == pytest.approx(np.pi * cell.radius_um**2, rel=0.15)


def test_lymphocytes_and_erythroblasts_are_small_promyelocytes_large() -> None:
    by_size = sorted(NAMES, key=mean_diameter_um)
    assert set(by_size[:2]) == {"lymphocyte_typical", "erythroblast"}
    assert set(by_size[-2:]) == {"promyelocyte", "monocyte"}


def test_nuclei_shrink_from_blast_to_segmented_neutrophil() -> None:
    stages = ("myeloblast", "promyelocyte", "metamyelocyte", "neutrophil_segmented")
    shares = [np.mean([nucleus_share(cell) for cell in cells(name)]) for name in stages]
    assert shares == sorted(shares, reverse=True)


def test_nucleus_indents_as_neutrophil_matures() -> None:
    stages = ("myelocyte", "metamyelocyte", "neutrophil_banded")
    filled = [np.mean([solidity(cell) for cell in cells(name)]) for name in stages]
    assert filled == sorted(filled, reverse=True) and filled[0] - filled[2] > 0.15


def test_lobes_separate_when_threads_are_cut() -> None:
    def num_lobes(cell: Cell) -> int:
        inner = cell.nucleus > 0.5
        for _ in range(4):
            inner[1:-1, 1:-1] &= inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2]
            inner[1:-1, 1:-1] &= inner[1:-1, 2:]
        return int(label(inner)[1])

    segmented = np.mean([num_lobes(cell) for cell in cells("neutrophil_segmented")])
    eosinophil = np.mean([num_lobes(cell) for cell in cells("eosinophil")])
    assert segmented > 1.8 and 1.4 < eosinophil < 2.6
    assert all(num_lobes(cell) == 1 for cell in cells("myeloblast"))


def test_each_granule_type_has_its_dye() -> None:
    eosin = {name: dye_in_body(name, Dye.EOSIN) for name in NAMES}
    assert eosin.pop("eosinophil") > 0.3 and not any(eosin.values())
    dark = {name: dye_in_body(name, Dye.CHROMATIN) for name in NAMES}
    assert max(dark, key=lambda name: dark[name]) == "basophil"
    violet = {name: dye_in_body(name, Dye.AZUROPHILIA) for name in NAMES[3:9]}
    assert max(violet, key=lambda name: violet[name]) == "promyelocyte"
    assert violet["myeloblast"] == 0


def test_cytoplasm_turns_from_blue_to_pink_with_maturation() -> None:
    stages = NAMES[3:9]
    blue = [dye_in_body(name, Dye.BASOPHILIA) for name in stages]
    pink = [dye_in_body(name, Dye.ACIDOPHILIA) for name in stages]
    assert blue == sorted(blue, reverse=True)
    assert pink[:4] == sorted(pink[:4]) and min(pink[3:]) > 2 * max(pink[:2])


def test_unknown_class_suggests_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'monocyte'"):
        draw_cell("monocite", np.random.default_rng(0))


def test_no_red_cell_shows_through_the_white_cell() -> None:
    field = draw_field("monocyte", np.random.default_rng(4), crowding=2)
    middle = slice(field.shape[1] // 2 - 20, field.shape[1] // 2 + 20)
    assert field[Dye.HEMOGLOBIN].max() > 0.8
    assert np.abs(field[Dye.HEMOGLOBIN, middle, middle]).max() < 1e-6


def test_more_crowding_means_more_red_cells() -> None:
    amounts = [
        np.mean([draw_field("monocyte", np.random.default_rng(i), crowd)[0] for i in range(4)])
        for crowd in (0.3, 1.0)
    ]
    assert amounts[1] > 1.8 * amounts[0] > 0


@pytest.mark.parametrize("grain_um", [0.3, 0.7, 3.0])
def test_noise_is_standardized_with_given_grain_size(grain_um: float) -> None:
    fields = [noise(np.random.default_rng(i), 240, grain_um) for i in range(6)]
    assert np.mean([field.mean() for field in fields]) == pytest.approx(0, abs=0.15)
    assert np.mean([field.var() for field in fields]) == pytest.approx(1, abs=0.35)
    near = max(1, round(grain_um * PX_PER_UM / 6))
    far = round(2 * grain_um * PX_PER_UM)
    alike = [np.mean([(f[:, s:] * f[:, :-s]).mean() for f in fields]) for s in (near, far)]
    assert alike[0] > 0.35 and abs(alike[1]) < 0.2
