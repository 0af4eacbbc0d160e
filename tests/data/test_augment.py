"""Batch augmentation matches slow, separate operations on each sample."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

import hf_wbc.data.preprocessing as module
from hf_wbc.config import AUGMENTATIONS, Augmentation
from hf_wbc.data.augment import (
    NO_CHANGE,
    apply_augmentation,
    augment,
    check_strength,
    stronger_augmentation,
    weaker_augmentation,
)
from hf_wbc.data.augment_ops import NOISE, NUM_DRAWS, draw_augmentation_params
from hf_wbc.data.preprocessing import normalize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PLAIN = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
"""A mean and std that keep intensities in 0..255."""
NUM, SIDE, UM = 12, 14, 25.0
GEOMETRY = replace(
    NO_CHANGE, flips=True, quarter_turns=True, rotation_deg=30.0, shift_um=2.0, scale_um=3.0
)
LIGHT = AUGMENTATIONS["light"]
EVERYTHING = replace(LIGHT, rotation_deg=10.0, stain=0.2)


@pytest.fixture
def pixels() -> Tensor:
    """Draw random images with mid-range intensities that no jitter here clamps."""
    rng = torch.Generator().manual_seed(0)
    shape = (NUM, SIDE, SIDE, 3)
    return torch.randint(70, 150, shape, generator=rng, dtype=torch.uint8)


@pytest.fixture
def changes() -> Tensor:
    return draw_augmentation_params(NUM, torch.Generator().manual_seed(1))


def signed(changes: Tensor, sample: int, draw: int) -> float:
    return 2 * float(changes[sample, draw]) - 1


def turned(pixels: np.ndarray, row: Tensor) -> np.ndarray:
    """Flip and rotate one image (H, H, 3) with NumPy."""
    if row[0] >= 0.5:
        pixels = pixels[:, ::-1]
    if row[1] >= 0.5:
        pixels = pixels[::-1]
    return np.rot90(pixels, int(4 * row[2]))


def test_normalize_matches_formula(pixels: Tensor) -> None:
    expected = (pixels.double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    images = normalize(pixels, MEAN, STD)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    torch.testing.assert_close(images.double(), expected.permute(0, 3, 1, 2), atol=1e-5, rtol=1e-5)


def test_zero_strength_equals_normalize(pixels: Tensor, changes: Tensor) -> None:
    assert torch.equal(
        apply_augmentation(pixels, changes, NO_CHANGE, MEAN, STD), normalize(pixels, MEAN, STD)
    )


def test_flips_and_quarter_turns_move_whole_pixels(pixels: Tensor, changes: Tensor) -> None:
    strength = replace(NO_CHANGE, flips=True, quarter_turns=True)
    images = apply_augmentation(pixels, changes, strength, MEAN, STD)
    for sample in range(NUM):
        moved = turned(pixels[sample].numpy(), changes[sample])
        expected = normalize(torch.from_numpy(moved.copy())[None], MEAN, STD)
        assert torch.equal(images[sample], expected[0])


@pytest.mark.parametrize(
    ("flips", "quarter_turns", "num_images"), [(True, False, 4), (False, True, 4), (True, True, 8)]
)
def test_every_flip_and_turn_occurs(flips: bool, quarter_turns: bool, num_images: int) -> None:
    pixels = torch.arange(27, dtype=torch.uint8).reshape(1, 3, 3, 3).expand(200, 3, 3, 3)
    strength = replace(NO_CHANGE, flips=flips, quarter_turns=quarter_turns)
    images = augment(pixels, strength, *PLAIN, torch.Generator().manual_seed(0))
    different, counts = images.flatten(1).unique(dim=0, return_counts=True)
    assert len(different) == num_images
    assert counts.min() > 0.5 * 200 / num_images


def test_flips_and_turns_are_exact_inside_affine_grid(pixels: Tensor, changes: Tensor) -> None:
    exact = torch.stack(
        [
            torch.from_numpy(turned(p.numpy(), c).copy())
            for p, c in zip(pixels, changes, strict=True)
        ]
    )
    in_one = apply_augmentation(pixels, changes, GEOMETRY, *PLAIN)
    later = replace(GEOMETRY, flips=False, quarter_turns=False)
    torch.testing.assert_close(
        in_one, apply_augmentation(exact, changes, later, *PLAIN), atol=1e-2, rtol=0
    )
    nearly_none = replace(GEOMETRY, rotation_deg=0.0, shift_um=1e-9, scale_um=0.0)
    images = apply_augmentation(pixels, changes, nearly_none, *PLAIN)
    torch.testing.assert_close(images, exact.permute(0, 3, 1, 2).float(), atol=2e-3, rtol=0)


def test_images_are_rotated_scaled_and_shifted_in_um(pixels: Tensor, changes: Tensor) -> None:
    strength = replace(GEOMETRY, flips=False, quarter_turns=False)
    images = apply_augmentation(pixels, changes, strength, *PLAIN, um=UM)
    center, um_per_px = (SIDE - 1) / 2, UM / SIDE
    y, x = (np.mgrid[:SIDE, :SIDE] - center) * um_per_px
    for sample in range(NUM):
        angle = math.radians(30.0 * signed(changes, sample, 3))
        shift_x, shift_y = 2.0 * signed(changes, sample, 4), 2.0 * signed(changes, sample, 5)
        wide = (UM + 3.0 * signed(changes, sample, 6)) / UM
        old_x = wide * (math.cos(angle) * x - math.sin(angle) * y) + shift_x
        old_y = wide * (math.sin(angle) * x + math.cos(angle) * y) + shift_y
        places = np.stack([old_y, old_x]) / um_per_px + center
        for channel in range(3):
            plane = pixels[sample, :, :, channel].double().numpy()
            expected = map_coordinates(plane, places, order=1, mode="reflect")
            np.testing.assert_allclose(images[sample, channel].numpy(), expected, atol=1e-2)


def in_yiq(image: np.ndarray, angle: float) -> np.ndarray:
    """Rotate the hue in the I-Q plane, pixel by pixel; image (H, W, 3)."""
    to_yiq = np.array(
        [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]]
    )
    y, i, q = np.einsum("ij,hwj->ihw", to_yiq, image)
    turn = (i + 1j * q) * np.exp(1j * angle)
    return np.einsum("ij,jhw->hwi", np.linalg.inv(to_yiq), np.stack([y, turn.real, turn.imag]))


def test_color_jitter_matches_torchvision(pixels: Tensor, changes: Tensor) -> None:
    strength = replace(NO_CHANGE, brightness=0.2, contrast=0.3, saturation=0.4, hue=0.1)
    images = apply_augmentation(pixels, changes, strength, MEAN, STD)
    for sample in range(NUM):
        brightness, contrast, saturation, hue = (
            signed(changes, sample, draw) for draw in range(7, 11)
        )
        image = pixels[sample].permute(2, 0, 1).float() / 255
        image = tv.adjust_brightness(image, 1 + 0.2 * brightness)
        image = tv.adjust_contrast(image, 1 + 0.3 * contrast)
        image = tv.adjust_saturation(image, 1 + 0.4 * saturation)
        hued = in_yiq(image.permute(1, 2, 0).double().numpy(), 2 * math.pi * 0.1 * hue)
        expected = (hued - np.array(MEAN)) / np.array(STD)
        # torchvision rounds the first luma weight to .2989
        np.testing.assert_allclose(images[sample].permute(1, 2, 0).numpy(), expected, atol=2e-3)


def test_hue_shift_keeps_luma_and_gray_and_wraps(pixels: Tensor) -> None:
    changes = torch.full((NUM, NUM_DRAWS), 1.0)
    luma = torch.tensor([0.299, 0.587, 0.114])
    there = apply_augmentation(pixels, changes, replace(NO_CHANGE, hue=0.5), *PLAIN)
    before = pixels.permute(0, 3, 1, 2).float()
    torch.testing.assert_close(
        torch.einsum("bchw,c->bhw", there, luma), torch.einsum("bchw,c->bhw", before, luma)
    )
    # half a turn maps a color to its opposite, mirrored at gray
    gray = torch.einsum("bchw,c->bhw", before, luma)[:, None]
    torch.testing.assert_close(there - gray, gray - before, atol=1e-2, rtol=0)


def test_zero_saturation_is_gray(pixels: Tensor) -> None:
    lowest = torch.zeros(NUM, NUM_DRAWS)
    images = apply_augmentation(pixels, lowest, replace(NO_CHANGE, saturation=1.0), *PLAIN)
    torch.testing.assert_close(images[:, 0], images[:, 1], atol=1e-3, rtol=0)
    torch.testing.assert_close(images[:, 0], images[:, 2], atol=1e-3, rtol=0)


@pytest.mark.parametrize("intensity", [0, 255])
def test_black_and_white_images_stay_gray_and_finite(intensity: int) -> None:
    pixels = torch.full((NUM, SIDE, SIDE, 3), intensity, dtype=torch.uint8)
    stained = augment(pixels, EVERYTHING, *PLAIN, torch.Generator().manual_seed(0))
    assert stained.isfinite().all()
    unstained = replace(EVERYTHING, stain=0.0)
    images = augment(pixels, unstained, *PLAIN, torch.Generator().manual_seed(0))
    torch.testing.assert_close(images, images[:, :1].expand_as(images), atol=1e-3, rtol=0)


def test_sample_gets_same_draw_in_any_slice(pixels: Tensor, changes: Tensor) -> None:
    whole = augment(pixels, EVERYTHING, MEAN, STD, torch.Generator().manual_seed(1))
    assert torch.equal(whole, apply_augmentation(pixels, changes, EVERYTHING, MEAN, STD))
    start = augment(pixels[:5], EVERYTHING, MEAN, STD, torch.Generator().manual_seed(1))
    torch.testing.assert_close(start, whole[:5], atol=1e-4, rtol=0)
    slice_ = apply_augmentation(pixels[5:], changes[5:], EVERYTHING, MEAN, STD)
    torch.testing.assert_close(slice_, whole[5:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("strength", [NO_CHANGE, EVERYTHING])
def test_chunking_for_cache_does_not_change_result(
    pixels: Tensor, changes: Tensor, strength: Augmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = apply_augmentation(pixels, changes, strength, MEAN, STD)
    monkeypatch.setattr(module, "_CACHED_BYTES", 5 * 4 * SIDE * SIDE * 3)
    parts = apply_augmentation(pixels, changes, strength, MEAN, STD)
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=0)


def test_autocast_does_not_change_augmentation(pixels: Tensor, changes: Tensor) -> None:
    expected = apply_augmentation(pixels, changes, EVERYTHING, MEAN, STD)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = apply_augmentation(pixels, changes, EVERYTHING, MEAN, STD)
    assert images.dtype == torch.float32
    assert torch.equal(images, expected)


def test_every_sample_has_its_own_draw(pixels: Tensor) -> None:
    same = pixels[:1].expand_as(pixels)
    images = augment(same, EVERYTHING, MEAN, STD, torch.Generator().manual_seed(0))
    assert len(images.flatten(1).unique(dim=0)) == NUM


def test_strong_view_doubles_ranges_up_to_limits() -> None:
    strong = stronger_augmentation(
        replace(LIGHT, brightness=0.4, contrast=0.7, shift_um=1.5, stain=0.05, target_shift=0.7)
    )
    assert (strong.brightness, strong.contrast, strong.shift_um) == (0.6, 0.7, 3.0)
    assert (strong.hue, strong.stain, strong.target_shift) == (0.1, 0.1, 1.0)
    assert stronger_augmentation(NO_CHANGE) == NO_CHANGE


def test_weak_view_is_at_most_light() -> None:
    assert weaker_augmentation(AUGMENTATIONS["robust"]) == LIGHT
    weak = weaker_augmentation(replace(LIGHT, hue=0.01, rotation_deg=20.0, stain=0.1))
    assert weak == replace(LIGHT, hue=0.01, stain=0.1)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_slice_of_batch_is_augmented_as_in_batch(name: str, pixels: Tensor) -> None:
    params = draw_augmentation_params(NUM, torch.Generator().manual_seed(0))
    whole = apply_augmentation(pixels, params, AUGMENTATIONS[name], MEAN, STD)
    part = apply_augmentation(pixels[3:7], params[3:7], AUGMENTATIONS[name], MEAN, STD)
    torch.testing.assert_close(part, whole[3:7], atol=1e-4, rtol=0)


def test_channel_gain_multiplies_each_channel(pixels: Tensor, changes: Tensor) -> None:
    strength = replace(NO_CHANGE, channel_gain=0.3)
    images = apply_augmentation(pixels, changes, strength, *PLAIN)
    gain = images.mean((2, 3)) / pixels.float().mean((1, 2))
    assert gain.min() >= 0.7 and gain.max() <= 1.3 and (gain.amax(1) - gain.amin(1)).min() > 0.01
    expected = pixels.permute(0, 3, 1, 2) * gain[..., None, None]
    torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-3)


def test_gamma_keeps_black_white_and_order_of_intensities(changes: Tensor) -> None:
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1).expand(NUM, 16, 16, 3)
    images = apply_augmentation(ramp, changes, replace(NO_CHANGE, gamma=0.4), *PLAIN)
    levels = images[:, 0].flatten(1)
    torch.testing.assert_close(levels[:, [0, -1]], torch.tensor([[0.0, 255.0]]).expand(NUM, 2))
    assert (levels.diff(dim=1) > 0).all()
    middle = (levels[:, 128] / 255).log() / math.log(128 / 255)
    assert math.exp(-0.4) <= middle.min() < 0.9 and 1.1 < middle.max() <= math.exp(0.4)


def test_defocus_blurs_half_of_the_images(pixels: Tensor) -> None:
    many = pixels[:1].expand(200, SIDE, SIDE, 3)
    params = draw_augmentation_params(200, torch.Generator().manual_seed(0))
    images = apply_augmentation(many, params, replace(NO_CHANGE, defocus_um=2.0), *PLAIN)
    unchanged = (images == many.permute(0, 3, 1, 2)).flatten(1).all(1)
    assert 70 < int(unchanged.sum()) < 130
    assert images[~unchanged].flatten(1).std(1).max() < images[unchanged].flatten(1).std(1).min()


def test_noise_has_drawn_std_and_independent_patterns(changes: Tensor) -> None:
    gray = torch.full((NUM, 64, 64, 3), 128, dtype=torch.uint8)
    images = apply_augmentation(gray, changes, replace(NO_CHANGE, noise=0.05), *PLAIN) - 128
    std = images.flatten(1).std(1)
    torch.testing.assert_close(std, (changes[:, NOISE] * 0.05 * 255).float(), rtol=0.05, atol=0.05)
    patterns = torch.corrcoef(images.flatten(1)) - torch.eye(NUM)
    assert patterns.abs().max() < 0.1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("brightness", 1.5),
        ("hue", 0.6),
        ("shift_um", -1.0),
        ("scale_um", 25.0),
        ("hue", math.nan),
        ("stain", 1.5),
        ("target_shift", -0.1),
    ],
)
def test_range_out_of_bounds_is_reported(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"augmentation\.{name} is {value}; it must lie in 0\.\."):
        check_strength(replace(NO_CHANGE, **{name: value}))
