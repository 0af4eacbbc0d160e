"""A configuration round-trips through JSON, reads its older forms, and rejects invalid values."""

import dataclasses
import json
import warnings
from typing import Any

import pytest

from hf_wbc.config import (
    AUGMENTATIONS,
    FLAT_NAMES,
    GROUPS,
    RENAMED,
    AdaptConfig,
    Augmentation,
    DataConfig,
    OptimConfig,
    RenamedWarning,
    TrainConfig,
)
from hf_wbc.config_groups import ADDED_AUGMENTATION

OLD = {
    "sources": ["a"], "target": ["b"], "method": "coral", "model": "vit-tiny", "fresh": True,
    "lr": 3e-4, "accumulation": 2, "clip": 0.5, "warmup": 0.2, "precision": "fp32",
    "evaluate_every": 5, "normalise_by": "domain", "adapt_lr": 0.1, "merge": ["x=y"], "seed": 3,
    "augmentation": {"hue": 0.1},
}  # fmt: skip
"""A configuration in the flat format from before grouping."""


def test_config_round_trips_through_json() -> None:
    config = TrainConfig(
        sources=("a", "b"), method_options={"tau": 1.0}, augmentation=Augmentation(hue=0.1)
    )
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert TrainConfig.from_dict(json.loads(json.dumps(config.flat()))) == config


def test_groups_and_flat_names_build_same_config() -> None:
    grouped = TrainConfig(
        data=DataConfig(sources=("a",)),
        optim=OptimConfig(learning_rate=0.1, steps=3),
        adapt=AdaptConfig(method="coral"),
    )
    flat = TrainConfig(sources=("a",), learning_rate=0.1, steps=3, method="coral")
    assert grouped == flat == flat.replace(steps=9).replace(optim=grouped.optim)


@pytest.mark.parametrize("replace", [dataclasses.replace, TrainConfig.replace])
def test_replacing_the_model_name_keeps_the_rest_of_its_group(replace: Any) -> None:
    config = replace(TrainConfig(("a",), from_scratch=True, image_size=32), model="other")
    assert config == TrainConfig(("a",), model="other", from_scratch=True, image_size=32)


def test_flat_names_are_unique() -> None:
    assert len(FLAT_NAMES) == sum(len(dataclasses.fields(group)) for group in GROUPS.values())
    assert set(RENAMED.values()) <= set(FLAT_NAMES) and not set(RENAMED) & set(FLAT_NAMES)


def test_old_flat_record_is_read_without_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = TrainConfig.from_record({"config": OLD})
    assert config.model.name == "vit-tiny" and config.model.from_scratch
    assert config.optim == OptimConfig(
        learning_rate=3e-4,
        gradient_accumulation_steps=2,
        max_grad_norm=0.5,
        warmup_ratio=0.2,
        mixed_precision="no",
    )
    assert config.eval.eval_steps == 5 and config.eval.merge == ("x=y",) and config.seed == 3
    assert config.data.normalize_by == "domain" and config.data.augmentation.hue == 0.1
    assert config.adapt.adapt_learning_rate == 0.1


@pytest.mark.parametrize("old", RENAMED)
def test_renamed_field_works_with_warning(old: str) -> None:
    value = OLD[old]
    with pytest.warns(RenamedWarning, match=f"^{old} is now {RENAMED[old]} ") as caught:
        built = TrainConfig(("a",), **{old: value})
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.warns(RenamedWarning):
        replaced = dataclasses.replace(TrainConfig(("a",)), **{old: value})
    assert built == replaced == TrainConfig(("a",), **{RENAMED[old]: value})


def test_unknown_keys_are_reported() -> None:
    with pytest.raises(
        ValueError, match=r"no field 'learning_rat'; did you mean 'learning_rate'\?"
    ):
        TrainConfig(("a",), learning_rat=1)
    with pytest.raises(ValueError, match=r"no field 'optim\.nope'"):
        TrainConfig.from_dict({"data": {"sources": ["a"]}, "optim": {"nope": 1}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": ()}, "--sources"),
        ({"steps": 0}, "steps is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"layer_decay": 0.0}, "layer_decay is 0.0"),
        ({"lineage": -0.1}, "lineage is -0.1; it must not be negative"),
        ({"logit_adjustment": -1.0}, "logit_adjustment is -1.0"),
        ({"adapt_learning_rate": -1.0}, "adapt_learning_rate is -1.0"),
        ({"ema": 0.9, "swad": True}, "both average weights, choose one"),
        ({"correct_priors": "mlls"}, "choose from none, bbse, em, rlls"),
        ({"inputs": "features", "test_time_flips": True}, "cannot be flipped"),
        ({"inputs": "features", "blur_um": 1.0}, "embedded features are of unchanged images"),
    ],
)
def test_value_out_of_range_is_reported(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(sources=("a",)).replace(**change)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_can_be_chosen_by_name(name: str) -> None:
    config = TrainConfig(sources=("a",), augmentation=name)
    assert config.data.augmentation == AUGMENTATIONS[name]
    assert TrainConfig.from_dict(config.to_dict()) == config
    assert TrainConfig.from_dict({"sources": ["a"], "augmentation": name}) == config


def test_unknown_augmentation_is_reported() -> None:
    with pytest.raises(ValueError, match="augmentation is 'heavy'; choose from robust"):
        TrainConfig(sources=("a",), augmentation="heavy")


def test_old_records_disable_augmentations_added_later() -> None:
    values = TrainConfig(sources=("a",), augmentation="light").to_dict()
    for added in ADDED_AUGMENTATION:
        del values["data"]["augmentation"][added]
    assert TrainConfig.from_dict(values).data.augmentation == AUGMENTATIONS["light"]
