"""Random changes to a whole batch on its device, every sample its own draw.

All geometry of a sample is one affine grid, and all its colour, normalising included, is one 3x4
affine map, so that a batch costs one resampling and one product however many changes are on.
Colours are not clamped in between. Mirrors and quarter turns alone move whole pixels, and
strengths of zero leave exactly `normalise`.
"""

import math
from collections.abc import Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from hf_wbc.config import Augmentation
from hf_wbc.data.schema import CROP_UM

NO_CHANGE = Augmentation(
    flips=False,
    quarter_turns=False,
    shift_um=0.0,
    scale_um=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
)
_NUM_DRAWS = 11
_MIRROR_X, _MIRROR_Y, _TURN, _ROTATION, _SHIFT_X, _SHIFT_Y, _SCALE = range(7)
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(7, _NUM_DRAWS)
_YIQ = (
    (0.299, 0.587, 0.114),
    (0.595716, -0.274453, -0.321263),
    (0.211456, -0.522591, 0.311135),
)
"""Luma, and the plane in which hue is an angle and saturation a length."""
_CACHED_BYTES = 2**20
"""Float images that go together through all operations on a CPU, so that its cache holds them."""


def augment(
    pixels: Tensor,
    strength: Augmentation,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
    um: float = CROP_UM,
) -> Tensor:
    """Pixels (B, H, H, 3) uint8, `um` wide, to changed normalised images (B, 3, H, H) float32.

    Samples take their numbers from `generator` in turn, and as many whatever the strengths.
    """
    changes = draw_changes(len(pixels), generator)
    return apply_changes(pixels, changes, strength, mean, std, um)


def draw_changes(num: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1), one row a sample (num, draws), on the generator's device.

    Rows are drawn in order (on a CPU): a slice of them is what these samples get in any batch.
    """
    return torch.rand(num, _NUM_DRAWS, generator=generator, device=generator.device)


def apply_changes(
    pixels: Tensor,
    changes: Tensor,
    strength: Augmentation,
    mean: Sequence[float],
    std: Sequence[float],
    um: float = CROP_UM,
) -> Tensor:
    """`augment` with the rows of `draw_changes` in hand."""
    num, side = pixels.shape[:2]
    assert pixels.dtype == torch.uint8 and pixels.shape == (num, side, side, 3)
    frames = None
    if strength.rotation_deg or strength.shift_um or strength.scale_um:
        frames = _frames(changes, strength, um).to(pixels.device, non_blocking=True)
    elif strength.flips or strength.quarter_turns:
        pixels = _turned(pixels, changes, strength)
    is_coloured = strength.brightness or strength.contrast or strength.saturation or strength.hue
    if frames is None and not is_coloured:
        return normalise(pixels, mean, std)
    colours = _colours(changes, strength, mean, std).to(pixels.device, non_blocking=True)
    images = torch.empty(num, 3, side * side, device=pixels.device)
    with torch.autocast(pixels.device.type, enabled=False):
        for some in _slices(pixels):
            plain = pixels[some].float().permute(0, 3, 1, 2)
            if frames is not None:
                plain = _resampled(plain, frames[some])
            _colour(plain.flatten(2), colours[some], out=images[some])
    return images.view(num, 3, side, side)


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels (B, H, W, 3) uint8 to (x / 255 - mean) / std, (B, 3, H, W) float32."""
    num, height, width, _ = pixels.shape
    images = torch.empty(num, 3, height, width, device=pixels.device)
    slope, offset = _normal(mean, std).float().to(pixels.device, non_blocking=True)
    for some in _slices(pixels):
        part = images[some].copy_(pixels[some].permute(0, 3, 1, 2))
        part.mul_(slope[:, None, None]).add_(offset[:, None, None])
    return images


def doubled(strength: Augmentation) -> Augmentation:
    """Every range twice as wide, as far as it can be; for a strong view."""
    return replace(
        strength,
        rotation_deg=min(180.0, 2 * strength.rotation_deg),
        shift_um=2 * strength.shift_um,
        scale_um=2 * strength.scale_um,
        brightness=min(1.0, 2 * strength.brightness),
        contrast=min(1.0, 2 * strength.contrast),
        saturation=min(1.0, 2 * strength.saturation),
        hue=min(0.5, 2 * strength.hue),
    )


def check_strength(strength: Augmentation, um: float = CROP_UM) -> None:
    """ValueError for a range that is no number, negative, or wider than it can be."""
    limits = {"rotation_deg": 180.0, "shift_um": um / 4, "scale_um": um / 4, "hue": 0.5}
    for field in fields(strength):
        value, limit = getattr(strength, field.name), limits.get(field.name, 1.0)
        if not 0 <= value <= limit:
            raise ValueError(f"augmentation.{field.name} is {value}; it must lie in 0..{limit:g}")


def _slices(pixels: Tensor) -> list[slice]:
    """A CPU takes a batch in cache-sized parts, any other device at once."""
    num = len(pixels)
    step = max(1, _CACHED_BYTES // (4 * pixels[0].numel())) if pixels.is_cpu else max(1, num)
    return [slice(first, first + step) for first in range(0, num, step)]


def _signed(changes: Tensor, draw: int, strength: float) -> Tensor:
    """Uniform in +-strength (B,), float64."""
    return (changes[:, draw].double() * 2 - 1) * strength


def _square(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Matrices (B, n, n) from their entries (B,)."""
    return torch.stack([torch.stack(list(row), 1) for row in rows], 1)


def _codes(changes: Tensor, strength: Augmentation) -> tuple[Tensor, Tensor, Tensor]:
    """Mirror x, mirror y (0 or 1) and number of quarter turns (0 to 3), each (B,) int64."""
    mirrors = (changes[:, [_MIRROR_X, _MIRROR_Y]] >= 0.5).long() * strength.flips
    turns = (changes[:, _TURN] * 4).long() * strength.quarter_turns
    return mirrors[:, 0], mirrors[:, 1], turns


def _turned(pixels: Tensor, changes: Tensor, strength: Augmentation) -> Tensor:
    """Mirrored, then turned counter-clockwise, in whole pixels (B, H, H, 3)."""
    turned = torch.empty_like(pixels)
    mirror_x, mirror_y, turns = _codes(changes, strength)
    codes = turns * 4 + mirror_y * 2 + mirror_x
    for code in sorted(set(codes.tolist())):
        rows = (codes == code).nonzero()[:, 0].to(pixels.device, non_blocking=True)
        axes = [axis for axis, bit in ((2, 1), (1, 2)) if code & bit]
        turned[rows] = pixels[rows].flip(axes).rot90(code >> 2, (1, 2))
    return turned


def _frames(changes: Tensor, strength: Augmentation, um: float) -> Tensor:
    """Maps (B, 2, 3) from places (x, y, 1) in the new image to those in the old, in [-1, 1].

    The old image is mirrored and turned as in `_turned`, then seen through a frame that is
    rotated, widened and shifted.
    """
    mirror_x, mirror_y, turns = _codes(changes, strength)
    sign_x, sign_y = 1.0 - 2.0 * mirror_x, 1.0 - 2.0 * mirror_y
    cosine, sine = (turns * (math.pi / 2)).cos().round(), (turns * (math.pi / 2)).sin().round()
    turn = _square([[sign_x * cosine, -sign_x * sine], [sign_y * sine, sign_y * cosine]])
    angle = _signed(changes, _ROTATION, math.radians(strength.rotation_deg))
    width = 1 + _signed(changes, _SCALE, strength.scale_um / um)
    cosine, sine = width * angle.cos(), width * angle.sin()
    shift = [_signed(changes, draw, 2 * strength.shift_um / um) for draw in (_SHIFT_X, _SHIFT_Y)]
    frame = torch.cat(
        [_square([[cosine, -sine], [sine, cosine]]), torch.stack(shift, 1)[:, :, None]], 2
    )
    return (turn.double() @ frame).float()


def _resampled(images: Tensor, frames: Tensor) -> Tensor:
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


def _normal(mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Slope and offset (2, 3), float64, that take 0..255 to normalised intensities."""
    slope = [1 / (255 * s) for s in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    return torch.tensor([slope, offset], dtype=torch.float64)


def _colours(
    changes: Tensor, strength: Augmentation, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Maps (B, 3, 7) from 0..255 to changed normalised colours.

    Three columns for a pixel, three for the image's mean colour, one to add. Brightness, contrast
    (around the mean luma), then saturation and hue as a stretched turn in the plane of YIQ.
    """
    changes = changes.cpu()
    brightness = 1 + _signed(changes, _BRIGHTNESS, strength.brightness)
    contrast = 1 + _signed(changes, _CONTRAST, strength.contrast)
    saturation = 1 + _signed(changes, _SATURATION, strength.saturation)
    angle = _signed(changes, _HUE, 2 * math.pi * strength.hue)
    cosine, sine = saturation * angle.cos(), saturation * angle.sin()
    one, none = torch.ones_like(cosine), torch.zeros_like(cosine)
    chroma = _square([[one, none, none], [none, cosine, -sine], [none, sine, cosine]])
    yiq = torch.tensor(_YIQ, dtype=torch.float64)
    slope, offset = _normal(mean, std)
    pixel = (brightness * contrast)[:, None, None] * (yiq.inverse() @ chroma @ yiq)
    grey = (brightness * (1 - contrast))[:, None, None] * yiq[0].expand(3, 3)
    add = offset[:, None].expand(len(changes), 3, 1)
    return torch.cat([slope[:, None] * pixel, slope[:, None] * grey, add], 2).float()


def _colour(images: Tensor, colours: Tensor, out: Tensor) -> None:
    """Images (B, 3, H * W) of 0..255 through `colours` (B, 3, 7), into `out`."""
    pixel, grey, add = torch.split(colours, [3, 3, 1], dim=2)
    bias = torch.baddbmm(add, grey, images.mean(2, keepdim=True))
    torch.baddbmm(bias, pixel, images, out=out)
