"""Corruptions: their physical size, their randomness, and the errors they raise."""

import numpy as np
import pytest
import torch

from hf_wbc.data.corruptions import (
    CORRUPTIONS,
    GRID_PX,
    Cells,
    Corruption,
    corrupt,
    draw_for_images,
    find_corruptions,
    neighbor_rows,
)

NAMES = [each.name for each in CORRUPTIONS]


def drawn_cells(num: int = 2) -> torch.Tensor:
    """Draw dark discs of 12 um on a light ground (num, 3, GRID_PX, GRID_PX)."""
    axis = (torch.arange(GRID_PX) + 0.5) / 10 - 12.5
    inside = ((axis[:, None] ** 2 + axis**2).sqrt() < 4).float()
    dark, light = torch.tensor([90.0, 60, 140]), torch.tensor([235.0, 215, 225])
    image = light[:, None, None] + inside * (dark - light)[:, None, None]
    return image.repeat(num, 1, 1, 1)


def changed(name: str, severity: int, **draws: float) -> np.ndarray:
    """Corrupt one drawn cell; uniform numbers are .25 unless given as u0, u1."""
    (corruption,) = find_corruptions([name])
    uniform = torch.tensor([[draws.get(f"u{i}", 0.25) for i in range(4)]], dtype=torch.float64)
    images = drawn_cells(1)
    return corrupt(corruption, Cells(images, uniform, images), severity)[0]


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=NAMES)
def test_each_severity_changes_the_cell_more_than_the_previous(corruption: Corruption) -> None:
    images = drawn_cells()
    before = images.clone()
    cells = Cells(images, draw_for_images(0, corruption, ["a", "b"]), images.flip(0))
    clean = corrupt(corruption, cells, 0).astype(int)
    assert (clean == before.permute(0, 2, 3, 1).numpy()).all()
    found = [corrupt(corruption, cells, severity).astype(int) for severity in (1, 2, 3, 4)]
    gaps = [np.abs(np.log((each + 1) / (clean + 1)))[:, 50:200, 50:200] for each in found]
    means = [gap.mean() for gap in gaps]
    assert 0 < means[0] < means[1] < means[2] < means[3]
    assert torch.equal(images, before), "the input was changed"


def test_noise_has_stated_standard_deviation() -> None:
    noisy = changed("noise", 2).astype(float) - changed("noise", 0)
    ground = noisy[:60, :60, 2]  # far from 0 and 255 + 3 sigma on the drawn ground in blue
    assert ground.std() == pytest.approx(0.05 * 255, rel=0.1)


@pytest.mark.parametrize("name", ["blur", "defocus"])
def test_blurs_keep_brightness_and_widen_edges_by_stated_um(name: str) -> None:
    sharp, soft = changed(name, 0).astype(float), changed(name, 4).astype(float)
    assert soft.mean() == pytest.approx(sharp.mean(), abs=0.3)
    edge = soft[GRID_PX // 2, :, 1]  # the profile along a radius falls from light to dark
    share = (edge[: GRID_PX // 2] - 60) / (215 - 60)
    width_um = ((share > 0.16) & (share < 0.84)).sum() / 10
    expected = {"blur": 2 * 0.8, "defocus": 0.54 * 3.0}[name]  # 16 to 84 % of the edge
    assert width_um == pytest.approx(expected, abs=0.25)


def test_illumination_falls_by_stated_density() -> None:
    ratio = changed("illumination", 4, u0=0.125) / changed("illumination", 0)
    assert -np.log10(ratio[-1, -1]).mean() == pytest.approx(0.4, abs=0.01)
    assert -np.log10(ratio[0, 0]).mean() == pytest.approx(0, abs=0.01)


def test_stain_changes_cell_density_by_stated_share() -> None:
    center, ground = (GRID_PX // 2, GRID_PX // 2), changed("stain", 0)[0, 0]
    before = -np.log(changed("stain", 0)[center] / ground)
    stronger = changed("stain", 3, u0=0.1, u1=0.1)
    more = -np.log(stronger[center] / ground) - before
    assert more == pytest.approx(0.4 * before, abs=0.05)  # both dyes, almost no residual
    assert (-np.log(changed("stain", 3, u0=0.9, u1=0.9)[center] / ground) < before).all()
    assert (np.abs(stronger[0, 0].astype(int) - ground) <= 1).all(), "the background changed"


def test_white_balance_moves_red_and_blue_apart() -> None:
    red, green, blue = changed("white_balance", 2, u0=0.9).astype(float)[GRID_PX // 2, 5] / [
        235, 215, 225,
    ]  # fmt: skip
    assert (red, green) == pytest.approx((1 / 1.1, 1), abs=0.01) and blue > 1.09


def test_scale_and_shift_move_the_cell_by_stated_um() -> None:
    def dark(image: np.ndarray) -> np.ndarray:
        return image[..., 1] < 130

    area = dark(changed("scale", 3)).sum() / dark(changed("scale", 0)).sum()
    assert area == pytest.approx(1 / 1.2**2, rel=0.02)
    rows, columns = np.nonzero(dark(changed("off_center", 3, u0=0.25)))
    off_um = (np.array([rows.mean(), columns.mean()]) - (GRID_PX - 1) / 2) / 10
    assert np.linalg.norm(off_um) == pytest.approx(4.0, abs=0.1)


def test_overlapping_cell_has_stated_distance() -> None:
    fresh = changed("overlap", 4, u0=0.0)
    darker = (fresh[..., 1] < changed("overlap", 0)[..., 1] - 20).nonzero()
    assert darker[1].mean() / 10 - 12.5 == pytest.approx(5.0, abs=0.2)
    assert darker[0].mean() / 10 - 12.5 == pytest.approx(0.0, abs=0.2)


def test_draws_depend_on_image_id_and_not_position() -> None:
    noise, stain = CORRUPTIONS[0], find_corruptions(["stain"])[0]
    both = draw_for_images(3, noise, ["a", "b"])
    assert torch.equal(both[1:], draw_for_images(3, noise, ["b"]))
    assert not torch.equal(both, draw_for_images(4, noise, ["a", "b"]))
    assert not torch.equal(both, draw_for_images(3, stain, ["a", "b"]))


def test_cell_is_not_its_own_neighbor_unless_alone() -> None:
    ids = [f"{i}" for i in range(40)]
    rows = neighbor_rows(ids, 0)
    assert (rows != np.arange(40)).all() and len(np.unique(rows)) > 15
    assert neighbor_rows(["a"], 0).tolist() == [0]


def test_invalid_arguments_are_reported() -> None:
    images = drawn_cells(1)
    cells = Cells(images, draw_for_images(0, CORRUPTIONS[0], ["a"]), images)
    with pytest.raises(ValueError, match=r"severity is 5; .* 0\.\.4"):
        corrupt(CORRUPTIONS[0], cells, 5)
    with pytest.raises(ValueError, match=r"unknown corruption 'nois'.*noise"):
        find_corruptions(["nois"])
    with pytest.raises(ValueError, match="name each once"):
        find_corruptions(["noise", "noise"])
