"""Stain augmentation keeps cells recognizable."""

import numpy as np
import torch

from hf_wbc.adaptation import load_method
from hf_wbc.config import Augmentation
from hf_wbc.data.augment_ops import NUM_DRAWS, draw_stain_params, stain_affine


def test_only_stain_is_changed_and_between_light_and_strong() -> None:
    changed = load_method("stain_augmentation").config_overrides["augmentation"]
    assert changed.keys() == {"stain"}
    assert 0.05 < changed["stain"] < 0.2


def test_nuclei_stay_darker_than_cytoplasm_at_extremes() -> None:
    colors = torch.tensor([[60.0, 15.0, 150.0], [190.0, 160.0, 215.0], [250.0, 240.0, 235.0]])
    strength = Augmentation(
        **load_method("stain_augmentation").config_overrides["augmentation"]
    ).stain
    rng = np.random.default_rng(0)
    corners = torch.from_numpy(rng.integers(0, 2, (200, NUM_DRAWS)).astype(np.float64))
    images = colors.T.repeat(200, 1, 1)
    nucleus, cytoplasm, background = stain_affine(
        images, draw_stain_params(corners, strength)
    ).unbind(2)
    assert (nucleus.mean(1) < cytoplasm.mean(1)).all()
    assert (cytoplasm.mean(1) < background.mean(1)).all()
    assert (nucleus.argmin(1) == 1).all()
