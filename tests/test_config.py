"""A configuration survives JSON, and refuses what cannot be meant."""

import json
from dataclasses import replace

import pytest

from hf_wbc.config import Augmentation, TrainConfig


def test_a_configuration_survives_json() -> None:
    config = TrainConfig(
        sources=("a", "b"), method_options={"tau": 1.0}, augmentation=Augmentation(hue=0.1)
    )
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_keys_are_named() -> None:
    with pytest.raises(ValueError, match="unknown TrainConfig keys: nope"):
        TrainConfig.from_dict({"sources": ["a"], "nope": 1})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": ()}, "--sources"),
        ({"steps": 0}, "steps is 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"ema": 1.0}, "ema is 1.0"),
        ({"layer_decay": 0.0}, "layer_decay is 0.0"),
        ({"lineage": -0.1}, "lineage is -0.1; it must not be negative"),
        ({"logit_adjustment": -1.0}, "logit_adjustment is -1.0"),
        ({"adapt_lr": -1.0}, "adapt_lr is -1.0"),
        ({"ema": 0.9, "swad": True}, "both average weights, choose one"),
        ({"correct_priors": "mlls"}, "choose from none, bbse, em, rlls"),
        ({"inputs": "features", "test_time_flips": True}, "cannot be flipped"),
    ],
)
def test_a_value_out_of_range_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TrainConfig(sources=("a",)), **change)
