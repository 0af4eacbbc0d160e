"""From dye to pixels: how stain, lens and camera of a laboratory render a field of a smear.

The parameters of the first two laboratories were estimated from real images; the third imitates a
sharp slide scanner with warm colors and low contrast.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import ifft, irfft, rfft2

from hf_wbc.toy.canvas import PX_PER_UM, Plane

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ToyScanner:
    """A laboratory's stain and camera."""

    um_per_px: float
    frame_px: tuple[int, int]
    """Width and height."""
    view_um: float
    """Side of the square of the canvas that is sampled; a whole number of pixels on both scales."""
    stain: tuple[Triple, ...]
    """Optical density (RGB) of each dye, in the order of `Dye`."""
    light: Triple
    """Color of the empty background, 0 to 255."""
    stain_spread: float
    """Standard deviation of the logarithm of each dye's strength between slides."""
    light_spread: float
    """Standard deviation of the background, 0 to 255."""
    blur_um: tuple[float, float]
    """Range of the standard deviation of the point spread; the upper end is out of focus."""
    sharpen: float
    """Strength of the camera's unsharp mask."""
    noise: float
    """Standard deviation at the background, 0 to 255."""
    fringe_um: float
    """Displacement of red relative to blue (chromatic aberration)."""
    crowding: float
    """Density of red cells; see `draw_field`."""


ACEVEDO = ToyScanner(
    um_per_px=0.1,
    frame_px=(360, 363),
    view_um=37.5,
    stain=(
        (0.100, 0.150, 0.085),
        (0.520, 0.860, 0.165),
        (0.200, 0.190, 0.020),
        (0.070, 0.125, 0.055),
        (0.330, 0.600, 0.160),
        (0.095, 0.270, 0.215),
    ),
    light=(255, 229, 203),
    stain_spread=0.06,
    light_spread=1.2,
    blur_um=(0.10, 0.15),
    sharpen=1.2,
    noise=1.1,
    fringe_um=0.02,
    crowding=1.1,
)
MATEK = ToyScanner(
    um_per_px=1 / 13.8,
    frame_px=(400, 400),
    view_um=30.0,
    stain=(
        (0.095, 0.165, 0.085),
        (0.430, 1.080, 0.130),
        (0.170, 0.170, 0.025),
        (0.060, 0.120, 0.025),
        (0.260, 0.640, 0.120),
        (0.110, 0.330, 0.180),
    ),
    light=(245, 240, 239),
    stain_spread=0.16,
    light_spread=5.0,
    blur_um=(0.10, 0.45),
    sharpen=0.3,
    noise=1.0,
    fringe_um=0.08,
    crowding=1.1,
)
MLL23 = ToyScanner(
    um_per_px=25 / 288,
    frame_px=(288, 288),
    view_um=31.25,
    stain=(
        (0.050, 0.145, 0.115),
        (0.300, 0.640, 0.240),
        (0.205, 0.150, 0.045),
        (0.030, 0.110, 0.060),
        (0.160, 0.480, 0.160),
        (0.060, 0.240, 0.250),
    ),
    light=(232, 226, 224),
    stain_spread=0.10,
    light_spread=3.0,
    blur_um=(0.12, 0.2),
    sharpen=0.6,
    noise=2.2,
    fringe_um=0.03,
    crowding=1.0,
)


Pixels = NDArray[np.uint8]

SHARPEN_UM = 0.14
"""Standard deviation of the camera's unsharp mask."""


def acquire(field: Plane, scanner: ToyScanner, rng: np.random.Generator) -> Pixels:
    """Return the scanner's image (height, width, 3), uint8, of planes of dye.

    Raises:
        ValueError: If the field is smaller than the scanner's view.
    """
    clear = np.exp(np.float32(-np.log(10)) * _density(field, scanner, rng))
    image = _project(clear, scanner, rng)
    even, lamp = _light(scanner, rng)
    image *= even
    shot = np.sqrt(np.maximum(image[1], 0.08)) * _grain(rng, even.shape)
    pixels = np.empty((*even.shape, 3), np.uint8)
    for channel in range(3):
        exact = image[channel] * lamp[channel] + np.float32(scanner.noise) * shot
        pixels[..., channel] = np.clip(exact + np.float32(0.5), 0, 255)
    return pixels


def _grain(rng: np.random.Generator, shape: tuple[int, ...]) -> Plane:
    """Return noise with mean 0 and variance 1: the sum of 32 random bits, faster than a normal."""
    heads = np.bitwise_count(rng.integers(0, 2**32, shape, np.uint32))
    return np.asarray((heads.astype(np.float32) - 16) * np.float32(8**-0.5), np.float32)


def _density(field: Plane, scanner: ToyScanner, rng: np.random.Generator) -> Plane:
    """Return the optical density (3, n, n) of the part of the field in the scanner's view."""
    num_px = round(scanner.view_um * PX_PER_UM)
    margin = field.shape[1] - num_px
    if margin < 0 or margin % 2:
        raise ValueError(
            f"a field of {field.shape[1]} px does not contain the scanner's view of {num_px} px "
            "in its center; draw it with the scanner's view_um"
        )
    view = field[:, margin // 2 : margin // 2 + num_px, margin // 2 : margin // 2 + num_px]
    strength = np.exp(rng.normal(0, scanner.stain_spread, len(field)))
    stain = (np.asarray(scanner.stain) * strength[:, None]).astype(np.float32)
    density = np.zeros((3, num_px, num_px), np.float32)
    term = np.empty((num_px, num_px), np.float32)
    for plane, color in zip(view, stain, strict=True):
        if not plane.any():
            continue
        for channel in range(3):
            density[channel] += np.multiply(plane, color[channel], out=term)
    return density


def _project(clear: Plane, scanner: ToyScanner, rng: np.random.Generator) -> Plane:
    """Apply lens, camera and sampling as one filter: canvas (3, n, n) to (3, height, width).

    The spectrum of the view is truncated or padded to the scanner's number of samples, and a shift
    is a phase: the center of the view becomes the center of the frame.
    """
    view_um, num_px = scanner.view_um, clear.shape[1]
    num_samples = round(view_um / scanner.um_per_px)
    assert abs(num_samples * scanner.um_per_px - view_um) < 1e-6
    waves = np.arange(min(num_px, num_samples) // 2)
    both = np.r_[waves, -waves[:0:-1]]
    low, high = slice(0, len(waves)), slice(1 - len(waves), None)
    (left, shift_x), (top, shift_y) = (
        _middle(length, num_samples, num_px) for length in scanner.frame_px
    )
    width, height = scanner.frame_px
    lens = _transfer(both / view_um, scanner, rng) * _phase(both, shift_y)[:, None]
    lens *= np.float32((num_samples / num_px) ** 2)
    spectrum = np.zeros((num_samples, len(waves)), np.complex64)
    image = np.empty((3, height, width), np.float32)
    for channel, side in enumerate((-1, 0, 1)):
        waves_of = rfft2(clear[channel])[:, low]
        spectrum[low] = waves_of[low] * lens[low]
        spectrum[high] = waves_of[high] * lens[high]
        rows = ifft(spectrum, axis=0)[top : top + height]
        rows *= _phase(waves, shift_x + side * scanner.fringe_um / view_um)
        image[channel] = irfft(rows, num_samples, axis=1)[:, left : left + width]
    return image


def _middle(length: int, num_samples: int, num_px: int) -> tuple[int, float]:
    """Return the first sample of the frame, and the shift, in views, that centers it."""
    spare = num_samples - length
    return spare // 2, (0.5 + spare % 2 / 2) / num_samples - 0.5 / num_px


def _phase(waves: NDArray[np.int64], turns: float) -> NDArray[np.complex64]:
    """Return the factor that shifts each wave by a fraction of the view."""
    return np.asarray(np.exp(2j * np.pi * turns * waves), np.complex64)


def _transfer(frequency: Plane, scanner: ToyScanner, rng: np.random.Generator) -> Plane:
    """Return the transfer function of lens and camera (F, rfft half of F), by waves per um."""
    sharp, soft = scanner.blur_um
    blur_um = sharp + (soft - sharp) * rng.beta(0.6, 2.0)

    def gauss(sigma_um: float) -> Plane:
        line = np.exp(-2 * (np.pi * sigma_um * frequency) ** 2).astype(np.float32)
        return np.asarray(line[:, None] * line[: (len(line) + 1) // 2], np.float32)

    camera = 1 + np.float32(scanner.sharpen) * (1 - gauss(SHARPEN_UM))
    return np.asarray(gauss(blur_um) * camera, np.float32)


def _light(scanner: ToyScanner, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Return the illumination (height, width), around 1, and its color (3,), 0 to 255."""
    width, height = scanner.frame_px
    tilt = rng.normal(0, 0.006, 2)
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    even = (1 + float(tilt[0]) * x - 0.008 * x * x) + (float(tilt[1]) * y - 0.008 * y * y)
    lamp = scanner.light_spread * (rng.normal() + 0.35 * rng.normal(size=3))
    color = np.minimum(np.asarray(scanner.light) + lamp, 255).astype(np.float32)
    return np.asarray(even, np.float32), color
