"""Identical frames and frames of one scene, whole or shifted, are found; others are not."""

import hashlib
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from hf_wbc.preparation.duplicates import (
    THUMBNAIL_PX,
    Duplicates,
    components,
    find_duplicates,
    keep_together,
    overlapping_pairs,
    thumbnail,
)

SIDE = 144
"""Frame size in pixels: three per thumbnail cell."""

Pixels = NDArray[np.uint8]


def smear(seed: int, side: int = 2 * SIDE) -> Pixels:
    """Draw a textured field with dark spots, as large as four frames."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    field = 190 + 900 * gaussian_filter(rng.normal(size=(side, side)), 6)
    for center_y, center_x in rng.uniform(0, side, (30, 2)):
        depth = rng.uniform(60, 110)
        field -= depth * np.exp(
            -((y - center_y) ** 2 + (x - center_x) ** 2) / rng.uniform(150, 400)
        )
    return np.repeat(field.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def frame(field: Pixels, top: int = 60, left: int = 60) -> Pixels:
    return np.ascontiguousarray(field[top : top + SIDE, left : left + SIDE])


@pytest.fixture(scope="module")
def others() -> list[Pixels]:
    """Return frames of unrelated fields."""
    return [frame(smear(seed)) for seed in range(100, 130)]


def found(frames: list[Pixels]) -> Duplicates:
    digests = [hashlib.sha256(pixels.tobytes()).hexdigest() for pixels in frames]
    return find_duplicates(digests, np.stack([thumbnail(pixels) for pixels in frames]))


CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "shifted": lambda field: frame(field, 60 + 30, 60 - 42),
    "shifted by part of a cell": lambda field: frame(field, 61, 64),
    "darker": lambda field: (frame(field) * 0.98 - 2).clip(0).astype(np.uint8),
    "noisy": lambda field: noisy(frame(field)),
}


def noisy(pixels: Pixels) -> Pixels:
    noise = np.random.default_rng(0).normal(0, 6, (SIDE, SIDE, 1))
    return (pixels + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_frame_of_same_scene_is_found(change: str, others: list[Pixels]) -> None:
    changed = CHANGES[change](smear(1))
    frames = [*others[:15], frame(smear(1)), *others[15:], changed]
    assert found(frames) == Duplicates(identical=(), overlapping=((15, 31),))


def test_shift_is_measured_in_thumbnail_pixels() -> None:
    pair = np.stack([thumbnail(frame(smear(1))), thumbnail(frame(smear(1), 60 + 30, 60 - 42))])
    assert overlapping_pairs(pair).tolist() == [[0, 1, 10, -14]]


def test_other_scenes_do_not_match(others: list[Pixels]) -> None:
    assert found(others) == Duplicates((), ())


def test_identical_frames_are_found_and_compared_once(others: list[Pixels]) -> None:
    shifted = frame(smear(100), 75, 60)
    frames = [others[0], others[1], others[0], shifted, others[0]]
    assert found(frames) == Duplicates(identical=((0, 2, 4),), overlapping=((0, 3),))


def test_order_of_rows_does_not_matter(others: list[Pixels]) -> None:
    frames = [*others[:5], frame(smear(1)), frame(smear(1), 80, 70), frame(smear(1), 50, 45)]
    names = [f"{row}.png" for row in range(len(frames))]
    expected = dict(zip(names, keep_together(names, [None] * 8, found(frames)), strict=True))
    assert len(set(expected.values())) == 6
    for order in ([7, 6, 5, 4, 3, 2, 1, 0], [3, 7, 0, 5, 1, 6, 2, 4]):
        mixed = [names[row] for row in order]
        duplicates = found([frames[row] for row in order])
        together = keep_together(mixed, [None] * 8, duplicates)
        assert dict(zip(mixed, together, strict=True)) == expected


@pytest.mark.parametrize("value", [0, 128, 255])
def test_empty_frames_are_not_duplicates(value: int, others: list[Pixels]) -> None:
    blank = np.full((SIDE, SIDE, 3), value, np.uint8)
    assert found([blank]) == Duplicates((), ())
    barred = others[0].copy()
    barred[:, :30] = value
    assert found([blank, barred, *others[1:4]]) == Duplicates((), ())


def test_black_bars_at_edges_make_no_pair(others: list[Pixels]) -> None:
    barred = [pixels.copy() for pixels in others]
    for pixels in barred:
        pixels[:60] = 0
    assert found(barred) == Duplicates((), ())


def test_thumbnail_is_a_gray_mean() -> None:
    pixels = np.zeros((96, 144, 3), np.uint8)
    pixels[:48] = (255, 255, 255)
    cells = thumbnail(pixels)
    assert cells.shape == (THUMBNAIL_PX, THUMBNAIL_PX)
    assert cells[:22].min() == 255 and cells[26:].max() == 0


def test_components_are_transitive() -> None:
    assert components(6, [(3, 4), (1, 3), (5,), ()]).tolist() == [0, 1, 2, 1, 1, 5]


def test_groups_and_duplicates_stay_together() -> None:
    ids = ["e", "d", "c", "b", "a", "f"]
    groups = ["p1", None, "p1", "p2", "p2", None]
    duplicates = Duplicates(identical=((1, 2),), overlapping=((3, 5),))
    assert keep_together(ids, groups, duplicates) == ["c", "c", "c", "a", "a", "a"]
