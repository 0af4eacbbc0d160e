"""Appearance statistics separate foreign stains and blurred cells from the sources."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hf_wbc.data.image_statistics import (
    APPEARANCE_GEOMETRY,
    image_appearance,
    measure_source_appearance,
)


def cell(rng: np.random.Generator, tint: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    """Draw a textured disc on a light background, of LOOK's size."""
    side = APPEARANCE_GEOMETRY.size
    y, x = np.mgrid[:side, :side] / side - 0.5
    inside = (x**2 + y**2 < rng.uniform(0.25, 0.35) ** 2)[..., None]
    grain = gaussian_filter(rng.normal(0, 1, (side, side)), 1.2)[..., None] * 60
    ground = np.array([240, 225, 220]) + rng.normal(0, 3, 3)
    pixels = np.where(inside, np.array([120, 70, 150]) + grain, ground) * tint
    return pixels.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def sources() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    looks = [image_appearance(cell(rng)) for _ in range(60)]
    looks += [image_appearance(cell(rng, (1, 0.9, 0.8))) for _ in range(60)]
    return np.array(looks), np.repeat(["a", "b"], 60)


def test_cells_of_either_source_are_in_distribution(sources: tuple[np.ndarray, np.ndarray]) -> None:
    looks, rng = measure_source_appearance(*sources), np.random.default_rng(1)
    found = [
        image_appearance(cell(rng, tint)) for tint in ((1, 1, 1), (1, 0.9, 0.8)) for _ in range(20)
    ]
    assert sum(looks.is_out_of_distribution(one) for one in found) <= 1
    assert not any(looks.is_blurred(one) for one in found)


def test_another_stain_is_out_of_distribution(sources: tuple[np.ndarray, np.ndarray]) -> None:
    looks, rng = measure_source_appearance(*sources), np.random.default_rng(2)
    assert all(
        looks.is_out_of_distribution(image_appearance(cell(rng, (0.7, 0.9, 1)))) for _ in range(20)
    )


def test_blurred_cell_is_detected(sources: tuple[np.ndarray, np.ndarray]) -> None:
    looks, rng = measure_source_appearance(*sources), np.random.default_rng(3)
    for _ in range(10):
        soft = gaussian_filter(cell(rng).astype(float), (3, 3, 0)).astype(np.uint8)
        assert looks.is_blurred(image_appearance(soft))


def test_plain_image_has_no_sharpness_and_is_not_blurred(
    sources: tuple[np.ndarray, np.ndarray],
) -> None:
    plain = image_appearance(
        np.full((APPEARANCE_GEOMETRY.size, APPEARANCE_GEOMETRY.size, 3), 200, np.uint8)
    )
    assert np.isnan(plain[-1]) and not measure_source_appearance(*sources).is_blurred(plain)
