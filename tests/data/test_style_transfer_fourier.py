"""FDA swaps only the lowest-frequency amplitudes."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_wbc.data.style_transfer import swap_amplitudes

Array = NDArray[np.float64]


@pytest.fixture(params=[(16, 16), (15, 15), (16, 21)])
def pair(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 4, 3, *request.param, generator=rng) * 255
    return first, second


def reference(image: Array, target: Array, reach: int) -> Array:
    """Transform one channel (H, W) with NumPy's full, centered FFT."""
    source, other = (np.fft.fftshift(np.fft.fft2(plane)) for plane in (image, target))
    amplitude, phase = np.abs(source), np.angle(source)
    row, column = (side // 2 for side in image.shape)
    block = np.s_[row - reach : row + reach + 1, column - reach : column + reach + 1]
    amplitude[block] = np.abs(other)[block]
    mixed = np.fft.ifft2(np.fft.ifftshift(amplitude * np.exp(1j * phase)))
    np.testing.assert_allclose(mixed.imag, 0, atol=1e-9)
    return mixed.real


@pytest.mark.parametrize(("beta", "reach"), [(0.01, 0), (0.1, 1), (0.2, 3), (0.3, 4)])
def test_swap_amplitudes_matches_paper(
    pair: tuple[Tensor, Tensor], beta: float, reach: int
) -> None:
    images, targets = pair
    assert int(beta * min(images.shape[2:])) == reach
    found = swap_amplitudes(images, targets, beta)
    for sample in range(4):
        for channel in range(3):
            planes = (side[sample, channel].double().numpy() for side in pair)
            expected = reference(*planes, reach)
            np.testing.assert_allclose(found[sample, channel].numpy(), expected, atol=1e-2)


def test_phases_are_kept_and_low_amplitudes_replaced(pair: tuple[Tensor, Tensor]) -> None:
    images, targets = pair
    before, end, after = (
        torch.fft.fft2(x.double()) for x in (*pair, swap_amplitudes(images, targets, 0.2))
    )
    assert ((after / before).angle().abs() < 1e-3).all()
    low = torch.zeros(images.shape[2:], dtype=torch.bool)
    reach = int(0.2 * min(images.shape[2:]))
    near = [torch.fft.fftfreq(side).mul(side).round().abs() <= reach for side in images.shape[2:]]
    low[near[0][:, None] & near[1]] = True
    torch.testing.assert_close(after.abs()[..., low], end.abs()[..., low], rtol=1e-3, atol=0.1)
    torch.testing.assert_close(after.abs()[..., ~low], before.abs()[..., ~low], rtol=1e-3, atol=0.1)


def test_zero_beta_or_same_image_changes_nothing(pair: tuple[Tensor, Tensor]) -> None:
    images, targets = pair
    assert torch.equal(swap_amplitudes(images, targets, 0.0), images)
    torch.testing.assert_close(swap_amplitudes(images, images, 0.3), images, atol=1e-3, rtol=0)


def test_mean_becomes_that_of_target(pair: tuple[Tensor, Tensor]) -> None:
    means = (x.mean((2, 3)) for x in (swap_amplitudes(*pair), pair[1]))
    torch.testing.assert_close(*means, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("level", [0.0, 255.0])
def test_blank_images_stay_finite(pair: tuple[Tensor, Tensor], level: float) -> None:
    blank = torch.full_like(pair[0], level)
    for images, targets in ((blank, pair[1]), (pair[0], blank), (blank, blank)):
        assert swap_amplitudes(images, targets, 0.2).isfinite().all()
