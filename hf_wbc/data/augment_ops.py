"""All geometry of a sample is one affine grid; mirrors and quarter turns alone move whole pixels.

Beyond its edge an image is mirrored, in every domain alike: some laboratories' crops end at 25 um,
others' do not, and an edge that tells them apart would be learnt.

All colour of a sample, normalising included, is one affine map of its pixels.

Brightness, contrast, saturation, hue and a shift towards the target's colours cost one product
however many of them are on. Colours are not clamped in between.

Stain jitter in optical density: as if the smear had stood longer or shorter in each dye.

By Beer and Lambert's law dyes add up in optical density, -ln(intensity / white). Densities are
unmixed into dyes (Ruifrok & Johnston 2001, "Quantification of histochemical staining by color
deconvolution"), the amount of each is scaled and shifted at random for each sample (Tellez et al.
2019, arXiv:1902.06543, sec. 2.4: "HED-light" is a strength of .05, "HED-strong" of .2), and all is
mixed again. Theirs are tissue's haematoxylin, eosin and DAB; ours the dyes of a blood smear, with
the directions that ImageJ's colour deconvolution measured for "Giemsa". In ln(intensity) the whole
way is one affine map a sample.

The uniform numbers behind the random changes of a batch: one row a sample, one column a draw.

Every sample has all of them, whatever the strengths, so that a slice of a batch is what the same
samples get in any other, and one more kind of change leaves the numbers of the others alone."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from hf_wbc.config import Augmentation
from hf_wbc.data.preprocessing import ChannelValues, slope_and_offset

MIRROR_X, MIRROR_Y, TURN, ROTATION, SHIFT_X, SHIFT_Y, SCALE = range(7)
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(7, 11)
STAIN_SCALE, STAIN_SHIFT = slice(11, 14), slice(14, 17)
TARGET_AMOUNT, TARGET_DOMAIN = range(17, 19)
NUM_DRAWS = 19


def draw_augmentation_params(num: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1), one row a sample (num, draws), on the generator's device.

    Rows are drawn in order (on a CPU): a slice of them is what these samples get in any batch.
    """
    return torch.rand(num, NUM_DRAWS, generator=generator, device=generator.device)


def draw_uniform(changes: Tensor, strength: float) -> Tensor:
    """Part of the way to a target that each sample goes (B,), uniform in [0, strength), float64."""
    return changes[:, TARGET_AMOUNT].double() * strength


def draw_target_fraction(changes: Tensor, num_targets: int) -> tuple[Tensor, Tensor]:
    """Index of each sample's target, all alike, and what is left of the draw: another in [0, 1)."""
    places = changes[:, TARGET_DOMAIN].double() * num_targets
    which = places.long()
    return which, places - which


def signed_uniform(changes: Tensor, draw: int | slice, strength: float) -> Tensor:
    """Uniform in +-strength, (B,) for one draw and (B, n) for a slice of n, float64."""
    return (changes[:, draw].double() * 2 - 1) * strength


def flip_rotate90(pixels: Tensor, changes: Tensor, strength: Augmentation) -> Tensor:
    """Mirrored, then turned counter-clockwise, in whole pixels (B, H, H, 3)."""
    moved = torch.empty_like(pixels)
    mirror_x, mirror_y, turns = _codes(changes, strength)
    codes = turns * 4 + mirror_y * 2 + mirror_x
    for code in sorted(set(codes.tolist())):
        rows = (codes == code).nonzero()[:, 0].to(pixels.device, non_blocking=True)
        axes = [axis for axis, bit in ((2, 1), (1, 2)) if code & bit]
        moved[rows] = pixels[rows].flip(axes).rot90(code >> 2, (1, 2))
    return moved


def draw_crop_params(changes: Tensor, strength: Augmentation, um: float) -> Tensor:
    """Maps (B, 2, 3) from places (x, y, 1) in the new image to those in the old, in [-1, 1].

    The old image is mirrored and turned as in `turned`, then seen through a frame that is
    rotated, widened and shifted.
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
    """Images (B, 3, H, H) seen through `frames` (B, 2, 3); beyond the edge they are mirrored.

    The grid is what `affine_grid` gives, from two sums of a row and a column.
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
    """Matrices (B, n, n) from their entries (B,)."""
    return torch.stack([torch.stack(list(row), 1) for row in rows], 1)


def _codes(changes: Tensor, strength: Augmentation) -> tuple[Tensor, Tensor, Tensor]:
    """Mirror x, mirror y (0 or 1) and number of quarter turns (0 to 3), each (B,) int64."""
    mirrors = (changes[:, [MIRROR_X, MIRROR_Y]] >= 0.5).long() * strength.flips
    turns = (changes[:, TURN] * 4).long() * strength.quarter_turns
    return mirrors[:, 0], mirrors[:, 1], turns


_YIQ = (
    (0.299, 0.587, 0.114),
    (0.595716, -0.274453, -0.321263),
    (0.211456, -0.522591, 0.311135),
)
"""Luma, and the plane in which hue is an angle and saturation a length."""


def draw_color_params(
    changes: Tensor,
    strength: Augmentation,
    mean: ChannelValues,
    std: ChannelValues,
    towards: Tensor | None = None,
) -> Tensor:
    """Maps (B, 3, 7) from 0..255 to changed normalised colours.

    Three columns for a pixel, three for the image's mean colour, one to add. First part of the way
    to a target by `towards` (B, T, 3, 4), each target's map of colours in 0..1; then brightness,
    contrast (around the mean luma), saturation and hue as a stretched turn in the plane of YIQ.
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
    grey = (brightness * (1 - contrast))[:, None, None] * yiq[0].expand(3, 3)
    slope, offset = slope_and_offset(mean, std, len(changes))[..., None].unbind(1)
    if towards is not None and strength.target_shift:
        matrix, add = _part_of_the_way(changes, strength.target_shift, towards)
        offset = offset + slope * ((pixel + grey) @ add)
        pixel, grey = pixel @ matrix, grey @ matrix
    return torch.cat([slope * pixel, slope * grey, offset], 2).float()


def color_affine(images: Tensor, colours: Tensor, out: Tensor) -> None:
    """Images (B, 3, H * W) of 0..255 through `colours` (B, 3, 7), into `out`."""
    pixel, grey, add = torch.split(colours, [3, 3, 1], dim=2)
    bias = torch.baddbmm(add, grey, images.mean(2, keepdim=True))
    torch.baddbmm(bias, pixel, images, out=out)


def _part_of_the_way(changes: Tensor, strength: float, towards: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix (B, 3, 3) and what to add (B, 3, 1) on 0..255, a random part of the way to a target.

    The part is uniform in [0, strength), the target one of T with equal probability.
    """
    which, _ = draw_target_fraction(changes, towards.shape[1])
    whole = towards[torch.arange(len(towards)), which].double()
    part = draw_uniform(changes, strength)[:, None, None]
    matrix = torch.eye(3, dtype=torch.float64) * (1 - part) + part * whole[:, :, :3]
    return matrix, 255 * part * whole[:, :, 3:]


AZURE = (0.834750233, 0.513556283, 0.196330403)
"""Direction of methylene blue's density in red, green and blue."""
EOSIN = (0.092789, 0.954111, 0.283111)
_WHITE, _DARKEST = 255.0, 1.0


def stain_matrix() -> Tensor:
    """Densities of a unit of azure, eosin and what neither explains, as rows (3, 3), float64."""
    azure, eosin = torch.tensor([AZURE, EOSIN], dtype=torch.float64)
    rows = torch.stack([azure, eosin, torch.linalg.cross(azure, eosin)])
    return torch.nn.functional.normalize(rows)


def draw_stain_params(changes: Tensor, strength: float) -> Tensor:
    """Maps (B, 3, 4) of ln(intensity), intensities in 0..255; three columns to mix, one to add.

    Each dye's amount c becomes (1 + a) c + b, a and b uniform in +-strength; b in units of density.
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
    """Images (B, 3, N) of 0..255 with other amounts of each dye; `images` are overwritten."""
    matrix, add = torch.split(stains, [3, 1], dim=2)
    densities = images.clamp_(min=_DARKEST).log_()
    return torch.baddbmm(add, matrix, densities).exp_()
