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
from hf_wbc.config import Augmentation
from hf_wbc.data.augment import (
    NO_CHANGE,
    apply_augmentation,
    augment,
    check_strength,
    stronger_augmentation,
)
from hf_wbc.data.augment_ops import NUM_DRAWS, draw_augmentation_params
from hf_wbc.data.preprocessing import normalize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PLAIN = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
"""A mean and std that keep intensities in 0..255."""
NUM, SIDE, UM = 12, 14, 25.0
GEOMETRY = Augmentation(
    rotation_deg=30.0, shift_um=2.0, scale_um=3.0, brightness=0, contrast=0, saturation=0, hue=0
)
EVERYTHING = Augmentation(rotation_deg=10.0, stain=0.2)


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


def test_normalise_is_its_formula(pixels: Tensor) -> None:
    expected = (pixels.double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    images = normalize(pixels, MEAN, STD)
    assert images.dtype == torch.float32
    assert images.is_contiguous()
    torch.testing.assert_close(images.double(), expected.permute(0, 3, 1, 2), atol=1e-6, rtol=0)


def test_no_strength_is_exactly_normalise(pixels: Tensor, changes: Tensor) -> None:
    assert torch.equal(
        apply_augmentation(pixels, changes, NO_CHANGE, MEAN, STD), normalize(pixels, MEAN, STD)
    )


def test_mirrors_and_turns_move_whole_pixels(pixels: Tensor, changes: Tensor) -> None:
    strength = replace(NO_CHANGE, flips=True, quarter_turns=True)
    images = apply_augmentation(pixels, changes, strength, MEAN, STD)
    for sample in range(NUM):
        moved = turned(pixels[sample].numpy(), changes[sample])
        expected = normalize(torch.from_numpy(moved.copy())[None], MEAN, STD)
        assert torch.equal(images[sample], expected[0])


@pytest.mark.parametrize(
    ("flips", "quarter_turns", "num_images"), [(True, False, 4), (False, True, 4), (True, True, 8)]
)
def test_every_mirror_and_turn_occurs(flips: bool, quarter_turns: bool, num_images: int) -> None:
    pixels = torch.arange(27, dtype=torch.uint8).reshape(1, 3, 3, 3).expand(200, 3, 3, 3)
    strength = replace(NO_CHANGE, flips=flips, quarter_turns=quarter_turns)
    images = augment(pixels, strength, *PLAIN, torch.Generator().manual_seed(0))
    different, counts = images.flatten(1).unique(dim=0, return_counts=True)
    assert len(different) == num_images
    assert counts.min() > 0.5 * 200 / num_images


def test_mirrors_and_turns_are_exact_inside_an_affine_grid(pixels: Tensor, changes: Tensor) -> None:
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


def test_frames_are_rotated_widened_and_shifted_in_um(pixels: Tensor, changes: Tensor) -> None:
    strength = replace(GEOMETRY, flips=False, quarter_turns=False)
    images = apply_augmentation(pixels, changes, strength, *PLAIN, um=UM)
    centre, um_per_px = (SIDE - 1) / 2, UM / SIDE
    y, x = (np.mgrid[:SIDE, :SIDE] - centre) * um_per_px
    for sample in range(NUM):
        angle = math.radians(30.0 * signed(changes, sample, 3))
        shift_x, shift_y = 2.0 * signed(changes, sample, 4), 2.0 * signed(changes, sample, 5)
        wide = (UM + 3.0 * signed(changes, sample, 6)) / UM
        old_x = wide * (math.cos(angle) * x - math.sin(angle) * y) + shift_x
        old_y = wide * (math.sin(angle) * x + math.cos(angle) * y) + shift_y
        places = np.stack([old_y, old_x]) / um_per_px + centre
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


def test_colours_follow_one_another_as_in_torchvision(pixels: Tensor, changes: Tensor) -> None:
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


def test_hue_keeps_luma_and_grey_and_goes_round(pixels: Tensor) -> None:
    changes = torch.full((NUM, NUM_DRAWS), 1.0)
    luma = torch.tensor([0.299, 0.587, 0.114])
    there = apply_augmentation(pixels, changes, replace(NO_CHANGE, hue=0.5), *PLAIN)
    before = pixels.permute(0, 3, 1, 2).float()
    torch.testing.assert_close(
        torch.einsum("bchw,c->bhw", there, luma), torch.einsum("bchw,c->bhw", before, luma)
    )
    # half a turn maps a color to its opposite, mirrored at gray
    grey = torch.einsum("bchw,c->bhw", before, luma)[:, None]
    torch.testing.assert_close(there - grey, grey - before, atol=1e-2, rtol=0)


def test_saturation_of_minus_one_is_grey(pixels: Tensor) -> None:
    lowest = torch.zeros(NUM, NUM_DRAWS)
    images = apply_augmentation(pixels, lowest, replace(NO_CHANGE, saturation=1.0), *PLAIN)
    torch.testing.assert_close(images[:, 0], images[:, 1], atol=1e-3, rtol=0)
    torch.testing.assert_close(images[:, 0], images[:, 2], atol=1e-3, rtol=0)


@pytest.mark.parametrize("intensity", [0, 255])
def test_black_and_white_images_stay_grey_and_finite(intensity: int) -> None:
    pixels = torch.full((NUM, SIDE, SIDE, 3), intensity, dtype=torch.uint8)
    stained = augment(pixels, EVERYTHING, *PLAIN, torch.Generator().manual_seed(0))
    assert stained.isfinite().all()
    unstained = replace(EVERYTHING, stain=0.0)
    images = augment(pixels, unstained, *PLAIN, torch.Generator().manual_seed(0))
    torch.testing.assert_close(images, images[:, :1].expand_as(images), atol=1e-3, rtol=0)


def test_a_sample_gets_the_same_draw_in_any_slice(pixels: Tensor, changes: Tensor) -> None:
    whole = augment(pixels, EVERYTHING, MEAN, STD, torch.Generator().manual_seed(1))
    assert torch.equal(whole, apply_augmentation(pixels, changes, EVERYTHING, MEAN, STD))
    start = augment(pixels[:5], EVERYTHING, MEAN, STD, torch.Generator().manual_seed(1))
    torch.testing.assert_close(start, whole[:5], atol=1e-5, rtol=0)
    slice_ = apply_augmentation(pixels[5:], changes[5:], EVERYTHING, MEAN, STD)
    torch.testing.assert_close(slice_, whole[5:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("strength", [NO_CHANGE, EVERYTHING])
def test_parts_for_the_cache_do_not_change_the_result(
    pixels: Tensor, changes: Tensor, strength: Augmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = apply_augmentation(pixels, changes, strength, MEAN, STD)
    monkeypatch.setattr(module, "_CACHED_BYTES", 5 * 4 * SIDE * SIDE * 3)
    parts = apply_augmentation(pixels, changes, strength, MEAN, STD)
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


def test_reduced_precision_around_it_changes_nothing(pixels: Tensor, changes: Tensor) -> None:
    expected = apply_augmentation(pixels, changes, EVERYTHING, MEAN, STD)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = apply_augmentation(pixels, changes, EVERYTHING, MEAN, STD)
    assert images.dtype == torch.float32
    assert torch.equal(images, expected)


def test_every_sample_has_its_own_draw(pixels: Tensor) -> None:
    same = pixels[:1].expand_as(pixels)
    images = augment(same, EVERYTHING, MEAN, STD, torch.Generator().manual_seed(0))
    assert len(images.flatten(1).unique(dim=0)) == NUM


def test_a_strong_view_has_twice_the_ranges_as_far_as_they_go() -> None:
    strong = stronger_augmentation(
        Augmentation(brightness=0.6, shift_um=1.5, stain=0.05, target_shift=0.7)
    )
    assert (strong.brightness, strong.shift_um, strong.hue) == (1.0, 3.0, 0.1)
    assert (strong.stain, strong.target_shift) == (0.1, 1.0)
    assert stronger_augmentation(NO_CHANGE) == NO_CHANGE


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
def test_a_range_that_cannot_be_is_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"augmentation\.{name} is {value}; it must lie in 0\.\."):
        check_strength(replace(NO_CHANGE, **{name: value}))
