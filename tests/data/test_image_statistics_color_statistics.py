"""Color statistics of a domain are measured without labels and mapped to a target's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from hf_wbc.data.augment import NO_CHANGE, apply_augmentation
from hf_wbc.data.augment_ops import NUM_DRAWS, draw_augmentation_params
from hf_wbc.data.image_statistics import color_statistics, color_transfer_map, evenly_spaced
from hf_wbc.data.preprocessing import normalize
from hf_wbc.data.table import Table, concatenate

PLAIN = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
SHIFT = replace(NO_CHANGE, target_shift=1.0)
SIDE = 12


def colored(name: str, seed: int, num: int = 40, labels: int = 0) -> Table:
    """Draw images of correlated channels with a given mean and spread."""
    rng = np.random.default_rng(seed)
    mix = rng.uniform(-12, 12, (3, 3)) + 15 * np.eye(3)
    colors = rng.normal(size=(num, SIDE, SIDE, 3)) @ mix + rng.uniform(90, 160, 3)
    return Table(
        chunks=(colors.clip(0, 255).round().astype(np.uint8),),
        labels=np.full(num, labels),
        domains=np.zeros(num, dtype=np.int64),
        image_ids=[f"{name}_{row}" for row in range(num)],
        domain_names=(name,),
    )


@pytest.fixture
def home() -> Table:
    return colored("home", 0)


@pytest.fixture
def away() -> Table:
    return colored("away", 1)


def test_statistics_match_numpy_over_all_pixels(home: Table) -> None:
    colors = home.chunks[0].reshape(-1, 3) / 255
    found = color_statistics(home)
    np.testing.assert_allclose(found.mean, colors.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(colors.T, bias=True), rtol=1e-9)
    np.testing.assert_allclose(found.std, colors.std(0), rtol=1e-9)


def test_domain_in_mixed_table_is_measured_alone(home: Table, away: Table) -> None:
    both = concatenate([home, away])
    assert color_statistics(both, 1) == color_statistics(away)


def test_labels_do_not_affect_statistics(home: Table) -> None:
    assert color_statistics(colored("home", 0, labels=-1)) == color_statistics(home)


def test_single_color_domain_has_nonzero_std(home: Table) -> None:
    flat = replace(home, chunks=(np.full_like(home.chunks[0], 200),))
    statistics = color_statistics(flat)
    assert statistics.std == (1 / 255, 1 / 255, 1 / 255)
    assert np.isfinite(color_transfer_map(statistics, color_statistics(home))).all()


@pytest.mark.parametrize("num", [1, 5, 1000])
def test_evenly_spaced_includes_first_and_last(num: int) -> None:
    rows = evenly_spaced(num, 7)
    assert rows[0] == 0 and rows[-1] in {0, num - 1} and len(rows) == min(num, 7)


def test_color_map_matches_gaussian_optimal_transport(home: Table, away: Table) -> None:
    """Check against SciPy's matrix root, by Peyré & Cuturi 2019 (arXiv:1803.00567, remark 2.31)."""
    source, target = color_statistics(home), color_statistics(away)
    floor = np.eye(3) / 255**2
    c_s, c_t = np.array(source.covariance) + floor, np.array(target.covariance) + floor
    root = np.real(sqrtm(c_s))
    expected = np.linalg.inv(root) @ np.real(sqrtm(root @ c_t @ root)) @ np.linalg.inv(root)
    found = color_transfer_map(source, target)
    np.testing.assert_allclose(found[:, :3], expected, atol=1e-8)
    np.testing.assert_allclose(found[:, :3] @ source.mean + found[:, 3], target.mean, atol=1e-12)
    np.testing.assert_allclose(found[:, :3] @ c_s @ found[:, :3].T, c_t, atol=1e-12)


def test_map_to_same_domain_is_identity(home: Table) -> None:
    statistics = color_statistics(home)
    np.testing.assert_allclose(color_transfer_map(statistics, statistics), np.eye(3, 4), atol=1e-9)


def towards(table: Table, *targets: Table) -> torch.Tensor:
    maps = [
        color_transfer_map(color_statistics(table), color_statistics(target)) for target in targets
    ]
    return torch.from_numpy(np.array(maps)).expand(len(table), len(targets), 3, 4)


def test_full_shift_reaches_target_mean_and_covariance(home: Table, away: Table) -> None:
    pixels = home.batch(np.arange(len(home)))
    changes = torch.full((len(home), NUM_DRAWS), 1 - 2**-24)
    images = apply_augmentation(pixels, changes, SHIFT, *PLAIN, color_maps=towards(home, away))
    colors = images.permute(0, 2, 3, 1).reshape(-1, 3).double().numpy()
    target = color_statistics(away)
    np.testing.assert_allclose(colors.mean(0), target.mean, atol=1e-5)
    np.testing.assert_allclose(np.cov(colors.T), target.covariance, atol=5e-5)


def test_every_sample_shifts_by_its_own_fraction_to_one_target(home: Table, away: Table) -> None:
    third = colored("third", 2)
    changes = draw_augmentation_params(len(home), torch.Generator().manual_seed(0))
    strength = replace(SHIFT, target_shift=0.6)
    pixels, maps = home.batch(np.arange(len(home))), towards(home, away, third)
    images = apply_augmentation(pixels, changes, strength, *PLAIN, color_maps=maps)
    chosen = set()
    for sample, row in enumerate(changes.double().numpy()):
        colors, target = pixels[sample].numpy() / 255, int(row[18] * 2)
        whole = color_transfer_map(color_statistics(home), color_statistics((away, third)[target]))
        moved = colors @ whole[:, :3].T + whole[:, 3]
        expected = colors + 0.6 * row[17] * (moved - colors)
        np.testing.assert_allclose(images[sample].permute(1, 2, 0).numpy(), expected, atol=1e-5)
        chosen.add(target)
    assert chosen == {0, 1}


def test_zero_strength_equals_normalize(home: Table, away: Table) -> None:
    changes = draw_augmentation_params(len(home), torch.Generator().manual_seed(0))
    pixels = home.batch(np.arange(len(home)))
    images = apply_augmentation(pixels, changes, NO_CHANGE, *PLAIN, color_maps=towards(home, away))
    assert torch.equal(images, normalize(pixels, *PLAIN))
