"""Config overrides of methods name existing fields, and explicit user settings take precedence."""

import pytest

from hf_wbc.adaptation import load_method, method_names
from hf_wbc.config import Augmentation, TrainConfig
from hf_wbc.engine.resolve import with_config_overrides

CONFIG = TrainConfig(sources=("a",), target=("b",))
NAMES = [name for name in method_names() if load_method(name).config_overrides]


def test_methods_with_overrides_are_as_expected() -> None:
    computed = {"lda", "lda_standardized", "prototypes", "prototypes_standardized"}
    recipes = {"strong_augmentation", "stain_augmentation", "target_stats", "swad", "ema"}
    assert {*NAMES} == computed | recipes


@pytest.mark.parametrize("name", NAMES)
def test_overrides_change_a_default_configuration(name: str) -> None:
    recipe = load_method(name).config_overrides
    made = with_config_overrides(CONFIG, recipe)
    assert made != CONFIG or name == "strong_augmentation"
    for field, value in recipe.items():
        if field == "augmentation":
            assert all(getattr(made.data.augmentation, part) == value[part] for part in value)
        else:
            assert made.flat()[field] == value


def test_user_settings_take_precedence() -> None:
    mine = CONFIG.replace(ema=0.5, augmentation=Augmentation(hue=0.02, stain=0.3))
    assert with_config_overrides(mine, load_method("ema").config_overrides).optim.ema == 0.5
    made = with_config_overrides(mine, load_method("strong_augmentation").config_overrides)
    assert made.data.augmentation.hue == 0.02 and made.data.augmentation.stain == 0.3
    assert made.data.augmentation.brightness == 0.5
