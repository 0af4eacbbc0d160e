"""The background probe detects planted leaks and nothing else."""

import numpy as np
import pytest

from hf_wbc.audit.confounds import probe_background

NAMES = ("basophil", "eosinophil", "monocyte")


def _cells(num: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    kinds = np.arange(num) % 3
    border = rng.normal(size=(num, 6)).astype(np.float32)
    border[:, 0] += shift * (kinds == 2)
    return border, kinds


def test_noise_background_gives_nothing_away():
    border, kinds = _cells(600, 0)
    found = probe_background(border, kinds, NAMES, np.arange(600))
    assert not found.gives_away
    assert found.chance == pytest.approx(1 / 3)
    assert found.interval[0] < found.balanced_accuracy < found.interval[1]


def test_class_specific_background_is_detected():
    border, kinds = _cells(600, 8)
    found = probe_background(border, kinds, NAMES, np.arange(600))
    assert found.gives_away
    assert found.recall[2] > 0.95
    assert found.balanced_accuracy == pytest.approx(np.mean(found.recall))
    assert found.shuffled == pytest.approx(1 / 3, abs=0.12)


def test_tied_images_are_never_in_both_training_and_test():
    """Otherwise ten pairs of identical pixels with random labels would be memorized."""
    rng = np.random.default_rng(0)
    border = np.repeat(rng.normal(size=(100, 90)), 2, axis=0).astype(np.float32)
    kinds = np.repeat(rng.integers(0, 2, 100), 2)
    apart = probe_background(border, kinds, NAMES, np.arange(200))
    together = probe_background(border, kinds, NAMES, np.repeat(np.arange(100), 2))
    assert apart.balanced_accuracy > 0.75
    assert together.balanced_accuracy < 0.65


def test_class_with_too_few_images_is_left_out():
    border, kinds = _cells(60, 0)
    few = np.r_[kinds[kinds != 1], [1, 1, 1]]
    found = probe_background(np.r_[border[kinds != 1], border[:3]], few, NAMES, np.arange(len(few)))
    assert found.names == ("basophil", "monocyte")
    assert found.left_out == ("eosinophil",)
    assert probe_background(border[:6], kinds[:6], NAMES, np.arange(6)) is None
    assert probe_background(border[:0], kinds[:0], NAMES, np.arange(0)) is None


def test_constant_background_gives_nothing_away():
    kinds = np.arange(30) % 3
    found = probe_background(np.full((30, 4), 200, np.float32), kinds, NAMES, np.arange(30))
    assert not found.gives_away
