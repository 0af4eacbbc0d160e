"""Batched augmentation operations: random parameters, geometry, color and stain.

Parameters. All random changes derive from one table of uniform numbers, one row per sample and one
column per draw. Every sample consumes all columns whatever the strengths are. A slice of a batch is
therefore augmented as in any other batch, and enabling one change does not affect the others.

Geometry. All geometric changes of a sample form one affine grid; flips and quarter turns alone move
whole pixels. Pixels beyond the edge are mirrored in every domain: some laboratories' crops end at
25 um and others do not, and a model could use visible edges to recognize the domain.

Color. Brightness, contrast, saturation, hue, white balance, the shift towards a target's colors and
normalization form one affine map of a sample's pixels. Intermediate colors are not clamped.

Camera. Gamma, blur and noise stand for another camera and focus. Each sample's noise is a window of
one fixed field of Gaussian noise, so that it costs a copy and is the same on every device.

Stain. Dyes add up in optical density, -ln(intensity / white) (Beer-Lambert law). Densities are
unmixed into dyes (Ruifrok & Johnston 2001, "Quantification of histochemical staining by color
deconvolution"), the amount of each dye is scaled and shifted at random (Tellez et al. 2019,
arXiv:1902.06543, sec. 2.4: "HED-light" is a strength of .05, "HED-strong" of .2), and the dyes are
mixed again. The papers use hematoxylin, eosin and DAB for tissue; blood smears use the "Giemsa"
vectors of ImageJ's color deconvolution. In ln(intensity), all of it is one affine map per sample.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from hf_wbc.config import Augmentation
from hf_wbc.data.preprocessing import ChannelValues, slope_and_offset

MIRROR_X, MIRROR_Y, TURN, ROTATION, SHIFT_X, SHIFT_Y, SCALE = range(7)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(7, 11)
STAIN_SCALE, STAIN_SHIFT = slice(11, 14), slice(14, 17)
TARGET_AMOUNT, TARGET_DOMAIN = range(17, 19)
CHANNEL_GAIN = slice(19, 22)
GAMMA, IS_BLURRED, BLUR, NOISE, NOISE_X, NOISE_Y = range(22, 28)
NUM_DRAWS = 28
"""Number of uniform numbers per sample. The numbers of a batch are drawn in one call, so another
count changes every augmented run without changing its name: draw new parameters separately."""


def draw_augmentation_params(num: int, generator: torch.Generator) -> Tensor:
    """Draw the random parameters of a batch.

    Rows are drawn in order (on a CPU), so that a slice of a batch does not depend on the batch.

    Args:
        num: Number of samples.
        generator: Source of the random numbers.

    Returns:
        Uniform numbers in [0, 1), (num, NUM_DRAWS), on the generator's device.
    """
    return torch.rand(num, NUM_DRAWS, generator=generator, device=generator.device)


def draw_target_fraction(changes: Tensor, strength: float) -> Tensor:
    """Return fractions of the way to the target, (B,) float64, uniform in [0, strength)."""
    return changes[:, TARGET_AMOUNT].double() * strength


def draw_target(changes: Tensor, num_targets: int) -> tuple[Tensor, Tensor]:
    """Draw a target for each sample, all with equal probability.

    Args:
        changes: Uniform numbers (B, draws).
        num_targets: Number of targets.

    Returns:
        Index of each sample's target (B,), int64, and the fractional part of the draw (B,), another
        uniform number in [0, 1).
    """
    places = changes[:, TARGET_DOMAIN].double() * num_targets
    which = places.long()
    return which, places - which


def signed_uniform(changes: Tensor, draw: int | slice, strength: float) -> Tensor:
    """Return numbers uniform in +-strength, (B,) for one draw or (B, n) for a slice, float64."""
    return (changes[:, draw].double() * 2 - 1) * strength


def flip_rotate90(pixels: Tensor, changes: Tensor, strength: Augmentation) -> Tensor:
    """Flip pixels (B, H, H, 3), then rotate them counterclockwise by quarter turns."""
    moved = torch.empty_like(pixels)
    mirror_x, mirror_y, turns = _codes(changes, strength)
    codes = turns * 4 + mirror_y * 2 + mirror_x
    for code in sorted(set(codes.tolist())):
        rows = (codes == code).nonzero()[:, 0].to(pixels.device, non_blocking=True)
        axes = [axis for axis, bit in ((2, 1), (1, 2)) if code & bit]
        moved[rows] = pixels[rows].flip(axes).rot90(code >> 2, (1, 2))
    return moved


def draw_crop_params(changes: Tensor, strength: Augmentation, um: float) -> Tensor:
    """Return affine maps from coordinates of the output image to coordinates of the input image.

    The input is flipped and rotated as in `flip_rotate90`, then seen through a rotated, scaled and
    shifted frame.

    Args:
        changes: Uniform numbers (B, draws).
        strength: Ranges of the random changes.
        um: Side of the images in um.

    Returns:
        Maps (B, 2, 3) of homogeneous coordinates (x, y, 1), with x and y in [-1, 1].
    """
    mirror_x, mirror_y, turns = _codes(changes, strength)
    sign_x, sign_y = 1.0 - 2.0 * mirror_x, 1.0 - 2.0 * mirror_y
    cosine, sine = (turns * (math.pi / 2)).cos().round(), (turns * (math.pi / 2)).sin().round()
    turn = stack_matrix([[sign_x * cosine, -sign_x * sine], [sign_y * sine, sign_y * cosine]])
    angle = signed_uniform(changes, ROTATION, math.radians(strength.rotation_deg))
    width = 1 + signed_uniform(changes, SCALE, strength.scale_um / um)
    cosine, sine = width * angle.cos(), width * angle.sin()
    shift = [
        signed_uniform(changes, draw, 2 * strength.shift_um / um) for draw in (SHIFT_X, SHIFT_Y)
    ]
    frame = torch.cat(
        [stack_matrix([[cosine, -sine], [sine, cosine]]), torch.stack(shift, 1)[:, :, None]], 2
    )
    return (turn.double() @ frame).float()


def resample_crop(images: Tensor, frames: Tensor) -> Tensor:
    """Resample images (B, 3, H, H) through affine maps (B, 2, 3), mirroring beyond the edges.

    The grid equals that of `affine_grid`, computed as sums of a row and a column.
    """
    num, _, side, _ = images.shape
    places = (torch.arange(side, device=images.device) * 2 + 1) / side - 1
    grid = torch.empty(2, num, side, side, device=images.device)
    for axis in range(2):
        slope_x, slope_y, start = frames[:, axis, :, None].unbind(1)
        row, column = slope_x * places, slope_y * places + start
        torch.add(row[:, None, :], column[:, :, None], out=grid[axis])
    return grid_sample(
        images, grid.permute(1, 2, 3, 0), padding_mode="reflection", align_corners=False
    )


def stack_matrix(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Stack entries (B,) into matrices (B, n, n)."""
    return torch.stack([torch.stack(list(row), 1) for row in rows], 1)


def _codes(changes: Tensor, strength: Augmentation) -> tuple[Tensor, Tensor, Tensor]:
    """Return x flips, y flips (0 or 1) and numbers of quarter turns (0 to 3), (B,) int64 each."""
    mirrors = (changes[:, [MIRROR_X, MIRROR_Y]] >= 0.5).long() * strength.flips
    turns = (changes[:, TURN] * 4).long() * strength.quarter_turns
    return mirrors[:, 0], mirrors[:, 1], turns


_YIQ = (
    (0.299, 0.587, 0.114),
    (0.595716, -0.274453, -0.321263),
    (0.211456, -0.522591, 0.311135),
)
"""RGB to YIQ: luma, and a plane in which hue is an angle and saturation a length."""


def draw_color_params(
    changes: Tensor,
    strength: Augmentation,
    mean: ChannelValues,
    std: ChannelValues,
    towards: Tensor | None = None,
) -> Tensor:
    """Return the affine color map of each sample, including normalization.

    The map first moves colors a random fraction of the way to a target. Then it changes brightness,
    contrast (around the mean luma), saturation and hue, the last two as scaling and rotation in
    the chroma plane of YIQ, and at last the gain of each channel.

    Args:
        changes: Uniform numbers (B, draws).
        strength: Ranges of the random changes.
        mean: Mean per channel, (3,) or (B, 3), for intensities in [0, 1].
        std: Standard deviation per channel, (3,) or (B, 3), for intensities in [0, 1].
        towards: Affine color maps (B, T, 3, 4) to each of T targets, for intensities in [0, 1].

    Returns:
        Maps (B, 3, 7) from intensities in 0..255 to normalized values, float32: three columns for
        the pixel, three for the mean color of the image, and one offset.
    """
    changes = changes.cpu()
    brightness = 1 + signed_uniform(changes, BRIGHTNESS, strength.brightness)
    contrast = 1 + signed_uniform(changes, CONTRAST, strength.contrast)
    saturation = 1 + signed_uniform(changes, SATURATION, strength.saturation)
    angle = signed_uniform(changes, HUE, 2 * math.pi * strength.hue)
    cosine, sine = saturation * angle.cos(), saturation * angle.sin()
    one, none = torch.ones_like(cosine), torch.zeros_like(cosine)
    chroma = stack_matrix([[one, none, none], [none, cosine, -sine], [none, sine, cosine]])
    yiq = torch.tensor(_YIQ, dtype=torch.float64)
    pixel = (brightness * contrast)[:, None, None] * (yiq.inverse() @ chroma @ yiq)
    gray = (brightness * (1 - contrast))[:, None, None] * yiq[0].expand(3, 3)
    gain = 1 + signed_uniform(changes, CHANNEL_GAIN, strength.channel_gain)
    pixel, gray = gain[:, :, None] * pixel, gain[:, :, None] * gray
    slope, offset = slope_and_offset(mean, std, len(changes))[..., None].unbind(1)
    if towards is not None and strength.target_shift:
        matrix, add = _part_of_the_way(changes, strength.target_shift, towards)
        offset = offset + slope * ((pixel + gray) @ add)
        pixel, gray = pixel @ matrix, gray @ matrix
    return torch.cat([slope * pixel, slope * gray, offset], 2).float()


def color_affine(images: Tensor, colors: Tensor, out: Tensor) -> None:
    """Apply color maps (B, 3, 7) to images (B, 3, H * W) in 0..255 and write them to `out`."""
    pixel, gray, add = torch.split(colors, [3, 3, 1], dim=2)
    bias = torch.baddbmm(add, gray, images.mean(2, keepdim=True))
    torch.baddbmm(bias, pixel, images, out=out)


def draw_gamma(changes: Tensor, strength: float) -> Tensor:
    """Return exponents (B, 1, 1) between exp(-strength) and exp(strength), float32."""
    return signed_uniform(changes, GAMMA, strength).exp().float()[:, None, None]


def apply_gamma(images: Tensor, gamma: Tensor) -> Tensor:
    """Raise intensities of images (B, 3, N) in 0..255 to powers (B, 1, 1), relative to 255.

    The images are overwritten.
    """
    return images.clamp_(min=0).div_(255).pow_(gamma).mul_(255)


def draw_blur(changes: Tensor, widest_um: float) -> Tensor:
    """Return standard deviations (B,) in um: 0 for half of the samples, else up to `widest_um`."""
    return (changes[:, BLUR] * widest_um * (changes[:, IS_BLURRED] < 0.5)).float()


NOISE_MARGIN = 64
"""Number of positions in x and in y at which a sample's window of the noise field may start."""


@lru_cache(maxsize=4)
def _noise_field(side: int, device: torch.device) -> Tensor:
    """Return standard Gaussian noise (3, side + NOISE_MARGIN, side + NOISE_MARGIN) on a device."""
    generator = torch.Generator().manual_seed(20190613)
    noise = torch.randn(3, side + NOISE_MARGIN, side + NOISE_MARGIN, generator=generator)
    return noise.to(device)


def add_noise(
    images: Tensor, changes: Tensor, strength: float, mean: ChannelValues, std: ChannelValues
) -> None:
    """Add Gaussian noise to normalized images (B, 3, H, H), in place.

    Args:
        images: Normalized images.
        changes: Uniform numbers (B, draws).
        strength: Largest standard deviation, as a fraction of full intensity.
        mean: Mean per channel with which the images were normalized, (3,) or (B, 3).
        std: Standard deviation per channel with which they were normalized, (3,) or (B, 3).
    """
    changes, side = changes.cpu(), images.shape[-1]
    slope = slope_and_offset(mean, std, len(changes))[:, 0] * 255
    scale = (changes[:, NOISE].double() * strength)[:, None] * slope
    scale = scale.float().to(images.device, non_blocking=True)[..., None, None]
    field = _noise_field(side, images.device)
    corners = (changes[:, [NOISE_X, NOISE_Y]] * NOISE_MARGIN).long().tolist()
    for image, amount, (x, y) in zip(images, scale, corners, strict=True):
        image.addcmul_(field[:, y : y + side, x : x + side], amount)


def _part_of_the_way(changes: Tensor, strength: float, towards: Tensor) -> tuple[Tensor, Tensor]:
    """Return an affine map a random fraction of the way to a random target, on 0..255.

    The fraction is uniform in [0, strength), and all T targets have equal probability. The result
    is a matrix (B, 3, 3) and an offset (B, 3, 1).
    """
    which, _ = draw_target(changes, towards.shape[1])
    whole = towards[torch.arange(len(towards)), which].double()
    part = draw_target_fraction(changes, strength)[:, None, None]
    matrix = torch.eye(3, dtype=torch.float64) * (1 - part) + part * whole[:, :, :3]
    return matrix, 255 * part * whole[:, :, 3:]


AZURE = (0.834750233, 0.513556283, 0.196330403)
"""Optical density of methylene blue in red, green and blue."""
EOSIN = (0.092789, 0.954111, 0.283111)
"""Optical density of eosin in red, green and blue."""
_WHITE, _DARKEST = 255.0, 1.0


def stain_matrix() -> Tensor:
    """Return unit densities of azure, eosin and the residual, as rows (3, 3), float64."""
    azure, eosin = torch.tensor([AZURE, EOSIN], dtype=torch.float64)
    rows = torch.stack([azure, eosin, torch.linalg.cross(azure, eosin)])
    return torch.nn.functional.normalize(rows)


def draw_stain_params(changes: Tensor, strength: float) -> Tensor:
    """Return the affine map of ln(intensity) that jitters the stain of each sample.

    The amount c of each dye becomes (1 + a) c + b, with a and b uniform in +-strength and b in
    units of optical density.

    Args:
        changes: Uniform numbers (B, draws).
        strength: Range of the scale and of the shift.

    Returns:
        Maps (B, 3, 4), a matrix and an offset, for intensities in 0..255, float32.
    """
    changes = changes.cpu()
    scale = 1 + signed_uniform(changes, STAIN_SCALE, strength)
    shift = signed_uniform(changes, STAIN_SHIFT, strength)
    mix = stain_matrix().T
    matrix = mix @ torch.diag_embed(scale) @ mix.inverse()
    white = torch.full((3,), math.log(_WHITE), dtype=torch.float64)
    add = white - matrix @ white - shift @ mix.T
    return torch.cat([matrix, add[:, :, None]], 2).float()


def stain_affine(images: Tensor, stains: Tensor) -> Tensor:
    """Apply maps (B, 3, 4) of ln(intensity) to images (B, 3, N) in 0..255.

    The images are overwritten.
    """
    matrix, add = torch.split(stains, [3, 1], dim=2)
    densities = images.clamp_(min=_DARKEST).log_()
    return torch.baddbmm(add, matrix, densities).exp_()
