"""Frames of one smear: same cell or neighboring cells."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from hf_wbc.audit.leaks import find_duplicate_groups, group_ties


def _smear() -> np.ndarray:
    """Draw a piece of a smear with dark cells, gray (120, 120), at thumbnail resolution."""
    rng = np.random.default_rng(5)
    coarse = Image.fromarray(rng.integers(60, 250, (16, 16)).astype(np.uint8))
    return np.asarray(coarse.resize((120, 120), Image.Resampling.BICUBIC))


def _pair(make_reading, shift: int, **options):
    smear = _smear()
    reading = make_reading([7, 9], size_px=[(360, 360)] * 2, **options)
    scenes = np.stack([smear[30:78, 30:78], smear[30:78, 30 + shift : 78 + shift]])
    return replace(reading, scene=scenes, square=scenes, small=np.full_like(reading.small, 99))


@pytest.mark.parametrize(("shift", "is_one_cell"), [(0, True), (3, True), (8, False)])
def test_small_shift_counts_as_same_cell(make_reading, shift, is_one_cell):
    """For a 36 um frame, 3 thumbnail cells are 2.25 um and 8 are 6 um."""
    found = find_duplicate_groups(_pair(make_reading, shift))
    assert found.overlapping == ((0, 1),)
    assert bool(found.same_cell) == is_one_cell


def test_larger_shift_is_allowed_without_scale(make_reading):
    assert find_duplicate_groups(_pair(make_reading, 8, um_per_px=None)).same_cell == {(0, 1)}


def test_frames_of_other_colors_are_not_the_same_cell(make_reading):
    reading = _pair(make_reading, 0)
    reading.small[1] += 40
    assert not find_duplicate_groups(reading).same_cell


def test_frames_of_two_datasets_are_compared(make_reading):
    reading = _pair(make_reading, 2, folder=[0, 1])
    assert find_duplicate_groups(reading).overlapping == ((0, 1),)


def test_rows_are_tied_by_pixels_scenes_and_groups(make_reading):
    reading = make_reading(
        [1] * 6,
        folder=[0, 0, 0, 0, 1, 1],
        groups=["p", None, "p", None, "p", None],
        digests=["a", "b", "c", "b", "d", "e"],
    )
    assert group_ties(reading, find_duplicate_groups(reading)).tolist() == [0, 1, 0, 1, 4, 5]
