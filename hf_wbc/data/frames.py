"""All geometry of a sample is one affine grid; mirrors and quarter turns alone move whole pixels.

Beyond its edge an image is mirrored, in every domain alike: some laboratories' crops end at 25 um,
others' do not, and an edge that tells them apart would be learnt.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from hf_wbc.config import Augmentation
from hf_wbc.data.draws import (
    MIRROR_X,
    MIRROR_Y,
    ROTATION,
    SCALE,
    SHIFT_X,
    SHIFT_Y,
    TURN,
    signed,
)


def turned(pixels: Tensor, changes: Tensor, strength: Augmentation) -> Tensor:
    """Mirrored, then turned counter-clockwise, in whole pixels (B, H, H, 3)."""
    moved = torch.empty_like(pixels)
    mirror_x, mirror_y, turns = _codes(changes, strength)
    codes = turns * 4 + mirror_y * 2 + mirror_x
    for code in sorted(set(codes.tolist())):
        rows = (codes == code).nonzero()[:, 0].to(pixels.device, non_blocking=True)
        axes = [axis for axis, bit in ((2, 1), (1, 2)) if code & bit]
        moved[rows] = pixels[rows].flip(axes).rot90(code >> 2, (1, 2))
    return moved


def draw_frames(changes: Tensor, strength: Augmentation, um: float) -> Tensor:
    """Maps (B, 2, 3) from places (x, y, 1) in the new image to those in the old, in [-1, 1].

    The old image is mirrored and turned as in `turned`, then seen through a frame that is
    rotated, widened and shifted.
    """
    mirror_x, mirror_y, turns = _codes(changes, strength)
    sign_x, sign_y = 1.0 - 2.0 * mirror_x, 1.0 - 2.0 * mirror_y
    cosine, sine = (turns * (math.pi / 2)).cos().round(), (turns * (math.pi / 2)).sin().round()
    turn = square([[sign_x * cosine, -sign_x * sine], [sign_y * sine, sign_y * cosine]])
    angle = signed(changes, ROTATION, math.radians(strength.rotation_deg))
    width = 1 + signed(changes, SCALE, strength.scale_um / um)
    cosine, sine = width * angle.cos(), width * angle.sin()
    shift = [signed(changes, draw, 2 * strength.shift_um / um) for draw in (SHIFT_X, SHIFT_Y)]
    frame = torch.cat(
        [square([[cosine, -sine], [sine, cosine]]), torch.stack(shift, 1)[:, :, None]], 2
    )
    return (turn.double() @ frame).float()


def resampled(images: Tensor, frames: Tensor) -> Tensor:
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


def square(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    """Matrices (B, n, n) from their entries (B,)."""
    return torch.stack([torch.stack(list(row), 1) for row in rows], 1)


def _codes(changes: Tensor, strength: Augmentation) -> tuple[Tensor, Tensor, Tensor]:
    """Mirror x, mirror y (0 or 1) and number of quarter turns (0 to 3), each (B,) int64."""
    mirrors = (changes[:, [MIRROR_X, MIRROR_Y]] >= 0.5).long() * strength.flips
    turns = (changes[:, TURN] * 4).long() * strength.quarter_turns
    return mirrors[:, 0], mirrors[:, 1], turns
