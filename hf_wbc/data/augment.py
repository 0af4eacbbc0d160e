"""Random augmentation of a batch on its device, with separate parameters for each sample.

Images pass through these steps: style transfer (unless it is a linear color map), the fixed blur of
the domain, one resampling for all geometric changes, stain jitter in optical density, and one
affine map for all color changes including normalization. Disabled steps cost nothing, and with zero
strengths the result equals that of `normalize`.

The strong view of embedded features uses dropout (Srivastava et al. 2014, "Dropout: a simple way to
prevent neural networks from overfitting"), because the effect of image changes on features is
unknown.
"""

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
"""Augmentation with all random changes disabled."""


def augment(
    pixels: Tensor,
    strength: Augmentation,
    mean: ChannelValues,
    std: ChannelValues,
    generator: torch.Generator,
    um: float = CROP_UM,
) -> Tensor:
    """Augment and normalize a batch of images.

    Each sample consumes the same number of draws from `generator`, whatever the strengths.

    Args:
        pixels: Images (B, H, H, 3), uint8.
        strength: Ranges of the random changes.
        mean: Mean per channel, (3,) or (B, 3), for intensities in [0, 1].
        std: Standard deviation per channel, (3,) or (B, 3), for intensities in [0, 1].
        generator: Source of the random numbers.
        um: Side of the images in um.

    Returns:
        Normalized images (B, 3, H, H), float32.
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
    color_maps: Tensor | None = None,
    style_transfer: StyleTransfer | None = None,
) -> Tensor:
    """Augment and normalize a batch with given parameters, drawn by `draw_augmentation_params`.

    Args:
        pixels: Images (B, H, H, 3), uint8.
        changes: Uniform numbers (B, draws).
        strength: Ranges of the random changes.
        mean: Mean per channel, (3,) or (B, 3), for intensities in [0, 1].
        std: Standard deviation per channel, (3,) or (B, 3), for intensities in [0, 1].
        um: Side of the images in um.
        blur_um: Standard deviation (B,) of a fixed blur of each sample, in um.
        color_maps: Affine color maps (B, T, 3, 4) to each of T targets, for intensities in [0, 1];
            a random fraction of `strength.target_shift` is applied.
        style_transfer: Style transfer with fractions that are already drawn.

    Returns:
        Normalized images (B, 3, H, H), float32.
    """
    num, side = pixels.shape[:2]
    assert pixels.dtype == torch.uint8 and pixels.shape == (num, side, side, 3)
    device, frames, stains = pixels.device, None, None
    if strength.rotation_deg or strength.shift_um or strength.scale_um:
        frames = draw_crop_params(changes, strength, um).to(device, non_blocking=True)
    elif strength.flips or strength.quarter_turns:
        pixels = flip_rotate90(pixels, changes, strength)
    is_blurred = blur_um is not None and bool(blur_um.any())
    is_color_changed = style_transfer is not None or _is_color_changed(strength, color_maps)
    if frames is None and not is_blurred and not is_color_changed:
        return normalize(pixels, mean, std)
    if strength.stain:
        stains = draw_stain_params(changes, strength.stain).to(device, non_blocking=True)
    colors = draw_color_params(changes, strength, mean, std, color_maps).to(
        device, non_blocking=True
    )
    images = torch.empty(num, 3, side * side, device=device)
    with torch.autocast(device.type, enabled=False):
        for some in cache_sized_slices(pixels):
            plain = pixels[some].float().permute(0, 3, 1, 2)
            if style_transfer is not None:
                plain = style_transfer.apply(plain, some)
            if is_blurred and blur_um is not None:
                plain = blur(plain, blur_um[some] * (side / um))
            if frames is not None:
                plain = resample_crop(plain, frames[some])
            flat = plain.flatten(2)
            if stains is not None:
                flat = stain_affine(flat, stains[some])
            color_affine(flat, colors[some], out=images[some])
    return images.view(num, 3, side, side)


def stronger_augmentation(strength: Augmentation) -> Augmentation:
    """Return the augmentation of strong views, with every range doubled up to its limit."""
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
    """Raise ValueError if a range is negative, not a number, or too wide."""
    limits = {"rotation_deg": 180.0, "shift_um": um / 4, "scale_um": um / 4, "hue": 0.5}
    for field in fields(strength):
        if field.name == "target_style":
            continue
        value, limit = getattr(strength, field.name), limits.get(field.name, 1.0)
        if not 0 <= value <= limit:
            raise ValueError(f"augmentation.{field.name} is {value}; it must lie in 0..{limit:g}")


def _is_color_changed(strength: Augmentation, color_maps: Tensor | None) -> bool:
    is_jittered = strength.brightness or strength.contrast or strength.saturation or strength.hue
    return bool(is_jittered or strength.stain or (strength.target_shift and color_maps is not None))


FRACTION = 0.2
"""Dropout rate of features."""


def drop_features(features: Tensor, uniform: Tensor, fraction: float = FRACTION) -> Tensor:
    """Apply dropout: zero features where `uniform` is below `fraction`, and scale up the others.

    Args:
        features: Features (B, d).
        uniform: Uniform numbers in [0, 1), (B, d).
        fraction: Dropout rate.

    Returns:
        Features (B, d) with dropout.
    """
    kept = (uniform >= fraction).to(features.dtype)
    return features * (kept / (1 - fraction))


def draw_feature_dropout(num: int, num_features: int, generator: torch.Generator) -> Tensor:
    """Draw uniform numbers in [0, 1), (num, num_features), row by row."""
    return torch.rand(num, num_features, generator=generator, device=generator.device)
