"""Three laboratories' stains and cameras, as numbers.

The numbers were read off real images of the first two laboratories; the third is a guess at a
sharp, warm slide scanner of low contrast.
"""

from dataclasses import dataclass

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Scanner:
    """A laboratory's stain and camera."""

    um_per_px: float
    frame_px: tuple[int, int]
    """Width and height."""
    view_um: float
    """Side of the square of canvas that is sampled; a whole number of pixels of both."""
    stain: tuple[Triple, ...]
    """Optical density by dye, in the order of `Dye`."""
    light: Triple
    """The empty background, 0 to 255."""
    stain_spread: float
    """Standard deviation of the logarithm of each dye's strength between slides."""
    light_spread: float
    """Standard deviation of the background, 0 to 255."""
    blur_um: tuple[float, float]
    """Range of the point spread's standard deviation; its upper end is out of focus."""
    sharpen: float
    """Strength of the camera's unsharp mask."""
    noise: float
    """Standard deviation at the background, 0 to 255."""
    fringe_um: float
    """Displacement of red against blue."""
    crowding: float
    """Red cells around, relative to `draw_field`."""


ACEVEDO = Scanner(
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
MATEK = Scanner(
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
MLL23 = Scanner(
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
