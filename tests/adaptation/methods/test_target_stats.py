"""Target statistics need a target and declare the challenge winner's full configuration."""

import pytest

from hf_wbc.adaptation import load_method
from hf_wbc.config import TrainConfig


def test_overrides_match_winning_recipe() -> None:
    method = load_method("target_stats")
    assert method.sees_target() and method.family == "adaptation"
    recipe = method.config_overrides
    assert recipe["augmentation"]["target_shift"] == 1.0
    assert recipe["balance"] == "class_domain" and recipe["test_time_flips"]


def test_only_the_loader_uses_the_target(small, make_batch, make_method) -> None:
    """An adaptation loss would change with the target images; this loss does not."""
    method = make_method("target_stats", small)
    near, far = make_batch(shift=0.0), make_batch(shift=9.0)
    assert method(near)["loss"].item() == pytest.approx(method(far)["loss"].item())


def test_other_target_styles_can_be_chosen() -> None:
    inner = load_method("target_stats").config_overrides["augmentation"]
    config = TrainConfig.from_dict(
        {
            "sources": ["a"],
            "target": ["b"],
            "augmentation": {**inner, "target_style": "reinhard"},
        }
    )
    assert config.data.augmentation.target_style == "reinhard"
