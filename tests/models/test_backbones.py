"""Backbone names build the architectures that their papers describe."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageClassification

from hf_wbc.models import BACKBONES, backbone_names
from hf_wbc.models.backbones import find_backbone, find_hub_model

PUBLISHED = {
    # Parameters with 1000 classes, as published with the weights (timm's model tables).
    "vit-tiny": 5_717_416,
    "convnextv2-atto": 3_708_400,
    "convnextv2-tiny": 28_635_496,
    "vit-base": 86_567_656,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_backbone_has_published_number_of_weights(name: str) -> None:
    ready = find_backbone(name)
    assert ready is not None
    with torch.device("meta"):
        config = AutoConfig.for_model(**ready.config, num_labels=1000)
        model = AutoModelForImageClassification.from_config(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name]


def test_dinov2_base_has_published_backbone_and_double_width_head() -> None:
    ready = find_backbone("dinov2-base")
    assert ready is not None
    with torch.device("meta"):
        config = AutoConfig.for_model(**{**ready.config, "image_size": 518}, num_labels=11)
        model = AutoModelForImageClassification.from_config(config)
    backbone = sum(parameter.numel() for parameter in model.dinov2.parameters())
    assert backbone == 86_580_480  # as the Hub counts for facebook/dinov2-base
    assert model.classifier.in_features == 2 * 768


def test_names_and_hub_ids_are_unique() -> None:
    assert (
        len(set(backbone_names())) == len({ready.hub_id for ready in BACKBONES}) == len(BACKBONES)
    )


def test_every_known_backbone_states_its_exposure() -> None:
    assert all(find_hub_model(ready.hub_id) is ready and ready.exposure for ready in BACKBONES)
    assert find_hub_model("somebody/else") is None
