"""Sharpness is a frequency per um, and the blur between two sharpnesses is recovered."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from hf_wbc.data.image_statistics import blur_to, sharpness, spectrum
from hf_wbc.data.table import Table

SIDE, UM = 64, 25.0


def table(images: np.ndarray) -> Table:
    return Table(
        chunks=(images.clip(0, 255).round().astype(np.uint8),),
        labels=np.full(len(images), -1),
        domains=np.zeros(len(images), dtype=np.int64),
        image_ids=[str(row) for row in range(len(images))],
        domain_names=("drawn",),
    )


def noise(width_um: float, num: int = 24, contrast: float = 40.0) -> np.ndarray:
    """Draw gray noise with a given blur per image, repeated in three channels."""
    planes = np.random.default_rng(0).normal(size=(num, SIDE, SIDE))
    width = width_um * SIDE / UM
    blurred = gaussian_filter(planes, (0, width, width), mode="wrap")
    return (128 + contrast * blurred / blurred.std())[..., None].repeat(3, axis=-1)


def test_sharpness_of_a_wave_is_its_frequency() -> None:
    periods = 16
    wave = 128 + 100 * np.sin(2 * np.pi * periods * np.arange(SIDE) / SIDE)
    images = np.broadcast_to(wave[:, None, None], (1, SIDE, SIDE, 3))
    assert sharpness(spectrum(table(images))) == pytest.approx(periods / UM, rel=0.02)


def test_sharpness_ignores_contrast_and_brightness() -> None:
    strong, weak = (table(noise(0.5, contrast=contrast)) for contrast in (40.0, 15.0))
    darker = table(noise(0.5) - 20)
    expected = sharpness(spectrum(strong))
    assert sharpness(spectrum(weak)) == pytest.approx(expected, rel=0.01)
    assert sharpness(spectrum(darker)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("added_um", [0.3, 0.5])
def test_blur_to_recovers_known_blur(added_um: float) -> None:
    sharp = spectrum(table(noise(0.4)))
    blurry = spectrum(table(noise((0.4**2 + added_um**2) ** 0.5)))
    assert blur_to(sharp, sharpness(blurry)) == pytest.approx(added_um, rel=0.1)


def test_blurred_domain_reaches_wanted_sharpness() -> None:
    images = noise(0.3)
    own = spectrum(table(images))
    wanted = 0.7 * sharpness(own)
    width = blur_to(own, wanted) * SIDE / UM
    blurred = gaussian_filter(images, (0, width, width, 0), mode="reflect")
    assert sharpness(own, blur_to(own, wanted)) == pytest.approx(wanted)
    assert sharpness(spectrum(table(blurred))) == pytest.approx(wanted, rel=0.03)


def test_sufficiently_blurred_domain_is_unchanged() -> None:
    own = spectrum(table(noise(0.5)))
    assert blur_to(own, sharpness(own)) == 0.0
    assert blur_to(own, 2 * sharpness(own)) == 0.0


def test_images_without_structure_are_refused() -> None:
    flat = table(np.full((2, SIDE, SIDE, 3), 200.0))
    with pytest.raises(ValueError, match="drawn: images of 64 px are too small"):
        spectrum(flat)
    tiny = replace(flat, chunks=(flat.chunks[0][:, :8, :8],))
    with pytest.raises(ValueError, match="raise --image-size"):
        spectrum(tiny)
