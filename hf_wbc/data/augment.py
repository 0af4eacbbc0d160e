"""Random changes to a whole batch on its device, every sample its own draw.

The way of an image: towards a target's style (where that is more than a linear map of colours),
its domain's blur (not random), one resampling for all geometry, stain jitter in optical density,
and one product for all colour, normalising included. What is off costs nothing, and strengths of
zero leave exactly `normalise`.

A strong view of embedded features: some entries are left out at random, the rest made larger.

Nothing is known of what an image's changes do to its features, so the view is that of dropout
(Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting"): the
same cell told by fewer of its features, right in expectation."""

from dataclasses import fields, replace

import torch
from torch import Tensor

from hf_wbc.config import Augmentation
from hf_wbc.data.augment_ops import (
    color_affine,
    draw_augmentation_params,
    draw_color_params,
    draw_crop_params,
    draw_stain_params,
    flip_rotate90,
    resample_crop,
    stain_affine,
)
from hf_wbc.data.image_statistics import blur
from hf_wbc.data.preprocessing import ChannelValues, cache_sized_slices, normalize
from hf_wbc.data.schema import CROP_UM
from hf_wbc.data.style_transfer import StyleTransfer

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


def augment(
    pixels: Tensor,
    strength: Augmentation,
    mean: ChannelValues,
    std: ChannelValues,
    generator: torch.Generator,
    um: float = CROP_UM,
) -> Tensor:
    """Pixels (B, H, H, 3) uint8, `um` wide, to changed normalised images (B, 3, H, H) float32.

    Samples take their numbers from `generator` in turn, and as many whatever the strengths.
    """
    changes = draw_augmentation_params(len(pixels), generator)
    return apply_augmentation(pixels, changes, strength, mean, std, um)


def apply_augmentation(
    pixels: Tensor,
    changes: Tensor,
    strength: Augmentation,
    mean: ChannelValues,
    std: ChannelValues,
    um: float = CROP_UM,
    *,
    blur_um: Tensor | None = None,
    towards: Tensor | None = None,
    way: StyleTransfer | None = None,
) -> Tensor:
    """`augment` with the rows of `draw_augmentation_params` in hand.

    `blur_um` (B,) is each sample's own, always; `towards` (B, T, 3, 4) are maps of its colours in
    0..1 to each of T targets', of which `strength.target_shift` goes a random part; `way` is that
    of another style, with its parts drawn.
    """
    num, side = pixels.shape[:2]
    assert pixels.dtype == torch.uint8 and pixels.shape == (num, side, side, 3)
    device, frames, stains = pixels.device, None, None
    if strength.rotation_deg or strength.shift_um or strength.scale_um:
        frames = draw_crop_params(changes, strength, um).to(device, non_blocking=True)
    elif strength.flips or strength.quarter_turns:
        pixels = flip_rotate90(pixels, changes, strength)
    is_blurred = blur_um is not None and bool(blur_um.any())
    is_coloured = way is not None or _is_coloured(strength, towards)
    if frames is None and not is_blurred and not is_coloured:
        return normalize(pixels, mean, std)
    if strength.stain:
        stains = draw_stain_params(changes, strength.stain).to(device, non_blocking=True)
    colours = draw_color_params(changes, strength, mean, std, towards).to(device, non_blocking=True)
    images = torch.empty(num, 3, side * side, device=device)
    with torch.autocast(device.type, enabled=False):
        for some in cache_sized_slices(pixels):
            plain = pixels[some].float().permute(0, 3, 1, 2)
            if way is not None:
                plain = way.take(plain, some)
            if is_blurred and blur_um is not None:
                plain = blur(plain, blur_um[some] * (side / um))
            if frames is not None:
                plain = resample_crop(plain, frames[some])
            flat = plain.flatten(2)
            if stains is not None:
                flat = stain_affine(flat, stains[some])
            color_affine(flat, colours[some], out=images[some])
    return images.view(num, 3, side, side)


def stronger_augmentation(strength: Augmentation) -> Augmentation:
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
        stain=min(1.0, 2 * strength.stain),
        target_shift=min(1.0, 2 * strength.target_shift),
    )


def check_strength(strength: Augmentation, um: float = CROP_UM) -> None:
    """ValueError for a range that is no number, negative, or wider than it can be."""
    limits = {"rotation_deg": 180.0, "shift_um": um / 4, "scale_um": um / 4, "hue": 0.5}
    for field in fields(strength):
        if field.name == "target_style":
            continue
        value, limit = getattr(strength, field.name), limits.get(field.name, 1.0)
        if not 0 <= value <= limit:
            raise ValueError(f"augmentation.{field.name} is {value}; it must lie in 0..{limit:g}")


def _is_coloured(strength: Augmentation, towards: Tensor | None) -> bool:
    is_jittered = strength.brightness or strength.contrast or strength.saturation or strength.hue
    return bool(is_jittered or strength.stain or (strength.target_shift and towards is not None))


FRACTION = 0.2
"""Of the entries that are left out."""


def drop_features(features: Tensor, uniform: Tensor, fraction: float = FRACTION) -> Tensor:
    """Features (B, d): zero where the uniform number (B, d) is below `fraction`, else scaled up."""
    kept = (uniform >= fraction).to(features.dtype)
    return features * (kept / (1 - fraction))


def draw_feature_dropout(num: int, num_features: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1), one row a sample (num, num_features), rows drawn in order."""
    return torch.rand(num, num_features, generator=generator, device=generator.device)
