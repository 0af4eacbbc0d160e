"""Random augmentation of a batch on its device, with separate parameters for each sample.

Images pass through these steps: style transfer (unless it is a linear color map), blur (the fixed
one of the domain and a random one), one resampling for all geometric changes, gamma, stain jitter
in optical density, one affine map for all color changes including normalization, and noise.
Disabled steps cost nothing, and with zero strengths the result equals that of `normalize`.

The strong view of embedded features uses dropout (Srivastava et al. 2014, "Dropout: a simple way to
prevent neural networks from overfitting"), because the effect of image changes on features is
unknown.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from hf_wbc.config import AUGMENTATIONS, Augmentation
from hf_wbc.data.augment_ops import (
    add_noise,
    apply_gamma,
    color_affine,
    draw_augmentation_params,
    draw_blur,
    draw_color_params,
    draw_crop_params,
    draw_gamma,
    draw_stain_params,
    flip_rotate90,
    resample_crop,
    stain_affine,
)
from hf_wbc.data.image_statistics import blur
from hf_wbc.data.preprocessing import ChannelValues, cache_sized_slices, normalize
from hf_wbc.data.schema import CROP_UM
from hf_wbc.data.style_transfer import StyleTransfer

NO_CHANGE = AUGMENTATIONS["none"]
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
    device, frames, stains, gamma = pixels.device, None, None, None
    if strength.rotation_deg or strength.shift_um or strength.scale_um:
        frames = draw_crop_params(changes, strength, um).to(device, non_blocking=True)
    elif strength.flips or strength.quarter_turns:
        pixels = flip_rotate90(pixels, changes, strength)
    blur_um = _total_blur(changes, strength.defocus_um, blur_um)
    is_blurred = bool(blur_um.any())
    is_color_changed = style_transfer is not None or _is_color_changed(strength, color_maps)
    if frames is None and not is_blurred and not is_color_changed:
        return normalize(pixels, mean, std)
    if strength.gamma:
        gamma = draw_gamma(changes, strength.gamma).to(device, non_blocking=True)
    if strength.stain:
        stains = draw_stain_params(changes, strength.stain).to(device, non_blocking=True)
    colors = draw_color_params(changes, strength, mean, std, color_maps).to(
        device, non_blocking=True
    )
    blur_px = blur_um * (side / um) if is_blurred else None
    steps = _Steps(style_transfer, blur_px, frames, gamma, stains, colors)
    images = torch.empty(num, 3, side * side, device=device)
    with torch.autocast(device.type, enabled=False):
        for some in cache_sized_slices(pixels):
            steps.apply(pixels, some, images)
    images = images.view(num, 3, side, side)
    if strength.noise:
        add_noise(images, changes, strength.noise, mean, std)
    return images


@dataclass(frozen=True, eq=False)
class _Steps:
    """The changes of a batch, in the order in which they are applied; None leaves a step out."""

    style_transfer: StyleTransfer | None
    blur_px: Tensor | None
    frames: Tensor | None
    gamma: Tensor | None
    stains: Tensor | None
    colors: Tensor

    def apply(self, pixels: Tensor, some: slice, out: Tensor) -> None:
        """Write the changed rows `some` of the pixels (B, H, H, 3) to `out` (B, 3, H * H)."""
        plain = pixels[some].float().permute(0, 3, 1, 2)
        if self.style_transfer is not None:
            plain = self.style_transfer.apply(plain, some)
        if self.blur_px is not None:
            plain = blur(plain, self.blur_px[some])
        if self.frames is not None:
            plain = resample_crop(plain, self.frames[some])
        flat = plain.flatten(2)
        if self.gamma is not None:
            flat = apply_gamma(flat, self.gamma[some])
        if self.stains is not None:
            flat = stain_affine(flat, self.stains[some])
        color_affine(flat, self.colors[some], out=out[some])


def _total_blur(changes: Tensor, widest_um: float, fixed_um: Tensor | None) -> Tensor:
    """Return the standard deviation (B,) in um of a fixed and a random blur together."""
    drawn = draw_blur(changes, widest_um).cpu()
    return drawn if fixed_um is None else torch.hypot(drawn, fixed_um.to(drawn))


def weaker_augmentation(strength: Augmentation) -> Augmentation:
    """Return the augmentation of weak views, from which pseudo-labels are taken: at most light."""
    light = AUGMENTATIONS["light"]
    ranges = [each.name for each in fields(strength) if each.name not in _STYLE_FIELDS]
    return replace(
        strength, **{name: min(getattr(strength, name), getattr(light, name)) for name in ranges}
    )


_STYLE_FIELDS = ("stain", "target_shift", "target_style")
STRONG_LIMITS = {
    "rotation_deg": 180.0,
    "scale_um": 6.0,
    "brightness": 0.6,
    "contrast": 0.6,
    "saturation": 0.8,
    "hue": 0.15,
    "channel_gain": 0.4,
    "gamma": 0.5,
    "defocus_um": 0.5,
    "noise": 0.1,
    "stain": 1.0,
    "target_shift": 1.0,
}
"""Limits of strong views: beyond them, nuclei change their dye and cells can no longer be named."""


def stronger_augmentation(strength: Augmentation) -> Augmentation:
    """Return the augmentation of strong views: every range doubled up to `STRONG_LIMITS`.

    A range that already exceeds its limit stays as it is.
    """
    doubled = {
        name: max(value, min(limit, 2 * value))
        for name, limit in STRONG_LIMITS.items()
        if (value := getattr(strength, name))
    }
    return replace(strength, shift_um=2 * strength.shift_um, **doubled)


def check_strength(strength: Augmentation, um: float = CROP_UM) -> None:
    """Raise ValueError if a range is negative, not a number, or too wide."""
    limits = {
        "rotation_deg": 180.0,
        "shift_um": um / 4,
        "scale_um": um / 4,
        "hue": 0.5,
        "defocus_um": 5.0,
    }
    for field in fields(strength):
        if field.name == "target_style":
            continue
        value, limit = getattr(strength, field.name), limits.get(field.name, 1.0)
        if not 0 <= value <= limit:
            raise ValueError(f"augmentation.{field.name} is {value}; it must lie in 0..{limit:g}")


def _is_color_changed(strength: Augmentation, color_maps: Tensor | None) -> bool:
    jitter = (
        strength.brightness,
        strength.contrast,
        strength.saturation,
        strength.hue,
        strength.channel_gain,
        strength.gamma,
        strength.noise,
        strength.stain,
    )
    return bool(any(jitter) or (strength.target_shift and color_maps is not None))


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
