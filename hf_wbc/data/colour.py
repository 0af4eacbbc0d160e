"""All colour of a sample, normalising included, is one affine map of its pixels.

Brightness, contrast, saturation, hue and a shift towards the target's colours cost one product
however many of them are on. Colours are not clamped in between.
"""

import math

import torch
from torch import Tensor

from hf_wbc.config import Augmentation
from hf_wbc.data.draws import (
    BRIGHTNESS,
    CONTRAST,
    HUE,
    SATURATION,
    draw_part,
    draw_target,
    signed,
)
from hf_wbc.data.frames import square
from hf_wbc.data.normalise import Levels, slope_and_offset

_YIQ = (
    (0.299, 0.587, 0.114),
    (0.595716, -0.274453, -0.321263),
    (0.211456, -0.522591, 0.311135),
)
"""Luma, and the plane in which hue is an angle and saturation a length."""


def draw_colours(
    changes: Tensor,
    strength: Augmentation,
    mean: Levels,
    std: Levels,
    towards: Tensor | None = None,
) -> Tensor:
    """Maps (B, 3, 7) from 0..255 to changed normalised colours.

    Three columns for a pixel, three for the image's mean colour, one to add. First part of the way
    to a target by `towards` (B, T, 3, 4), each target's map of colours in 0..1; then brightness,
    contrast (around the mean luma), saturation and hue as a stretched turn in the plane of YIQ.
    """
    changes = changes.cpu()
    brightness = 1 + signed(changes, BRIGHTNESS, strength.brightness)
    contrast = 1 + signed(changes, CONTRAST, strength.contrast)
    saturation = 1 + signed(changes, SATURATION, strength.saturation)
    angle = signed(changes, HUE, 2 * math.pi * strength.hue)
    cosine, sine = saturation * angle.cos(), saturation * angle.sin()
    one, none = torch.ones_like(cosine), torch.zeros_like(cosine)
    chroma = square([[one, none, none], [none, cosine, -sine], [none, sine, cosine]])
    yiq = torch.tensor(_YIQ, dtype=torch.float64)
    pixel = (brightness * contrast)[:, None, None] * (yiq.inverse() @ chroma @ yiq)
    grey = (brightness * (1 - contrast))[:, None, None] * yiq[0].expand(3, 3)
    slope, offset = slope_and_offset(mean, std, len(changes))[..., None].unbind(1)
    if towards is not None and strength.target_shift:
        matrix, add = _part_of_the_way(changes, strength.target_shift, towards)
        offset = offset + slope * ((pixel + grey) @ add)
        pixel, grey = pixel @ matrix, grey @ matrix
    return torch.cat([slope * pixel, slope * grey, offset], 2).float()


def recolour(images: Tensor, colours: Tensor, out: Tensor) -> None:
    """Images (B, 3, H * W) of 0..255 through `colours` (B, 3, 7), into `out`."""
    pixel, grey, add = torch.split(colours, [3, 3, 1], dim=2)
    bias = torch.baddbmm(add, grey, images.mean(2, keepdim=True))
    torch.baddbmm(bias, pixel, images, out=out)


def _part_of_the_way(changes: Tensor, strength: float, towards: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix (B, 3, 3) and what to add (B, 3, 1) on 0..255, a random part of the way to a target.

    The part is uniform in [0, strength), the target one of T with equal probability.
    """
    which, _ = draw_target(changes, towards.shape[1])
    whole = towards[torch.arange(len(towards)), which].double()
    part = draw_part(changes, strength)[:, None, None]
    matrix = torch.eye(3, dtype=torch.float64) * (1 - part) + part * whole[:, :, :3]
    return matrix, 255 * part * whole[:, :, 3:]
