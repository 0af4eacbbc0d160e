"""Strong augmentation doubles the default strengths."""

from dataclasses import asdict, replace

import pytest

from hf_wbc.adaptation import load_method
from hf_wbc.config import Augmentation, TrainConfig
from hf_wbc.data.augment import check_strength, stronger_augmentation


def test_every_default_range_is_doubled_and_any_angle_occurs() -> None:
    made = Augmentation(**load_method("strong_augmentation").config_overrides["augmentation"])
    check_strength(made)
    assert made == replace(stronger_augmentation(Augmentation()), rotation_deg=45.0)
    assert made.quarter_turns


@pytest.mark.parametrize("name", ["strong_augmentation", "stain_augmentation", "target_stats"])
def test_a_recipe_names_fields_that_are_and_moves_them_from_their_default(name: str) -> None:
    recipe = dict(load_method(name).config_overrides)
    inner = recipe.pop("augmentation")
    check_strength(Augmentation(**inner))
    plain, strength = TrainConfig(sources=("a",), target=("b",)), asdict(Augmentation())
    config = plain.replace(augmentation=Augmentation(**inner), **recipe)
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert all(value > strength[field] for field, value in inner.items())


@pytest.mark.parametrize("name", ["strong_augmentation", "stain_augmentation", "target_stats"])
def test_it_trains_as_source_only_does_on_images(name: str, small, make_batch, make_method) -> None:
    assert load_method(name).needs.images
    losses = [make_method(which, small)(make_batch())["loss"] for which in (name, "source_only")]
    assert losses[0].item() == losses[1].item()
