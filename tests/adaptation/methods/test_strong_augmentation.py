"""Strong augmentation is the robust augmentation, whichever was chosen by name."""

from dataclasses import asdict

import pytest

from hf_wbc.adaptation import load_method
from hf_wbc.config import AUGMENTATIONS, Augmentation, TrainConfig
from hf_wbc.data.augment import check_strength
from hf_wbc.engine.resolve import with_config_overrides


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_method_uses_robust_ranges(name: str) -> None:
    config = TrainConfig(sources=("a",), augmentation=name)
    made = with_config_overrides(config, load_method("strong_augmentation").config_overrides)
    assert made.data.augmentation == AUGMENTATIONS["robust"]


@pytest.mark.parametrize("name", ["stain_augmentation", "target_stats"])
def test_overrides_name_existing_fields_and_change_defaults(name: str) -> None:
    recipe = dict(load_method(name).config_overrides)
    inner = recipe.pop("augmentation")
    check_strength(Augmentation(**inner))
    plain, strength = TrainConfig(sources=("a",), target=("b",)), asdict(Augmentation())
    config = plain.replace(augmentation=Augmentation(**inner), **recipe)
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert all(value != strength[field] for field, value in inner.items() if name != "target_stats")


@pytest.mark.parametrize("name", ["strong_augmentation", "stain_augmentation", "target_stats"])
def test_loss_equals_source_only_on_images(name: str, small, make_batch, make_method) -> None:
    assert load_method(name).needs.images
    losses = [make_method(which, small)(make_batch())["loss"] for which in (name, "source_only")]
    assert losses[0].item() == losses[1].item()
