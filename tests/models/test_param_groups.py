"""Learning rates increase toward the head, and only matrices decay."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hf_wbc.models import Classifier, freeze, load_classifier, param_groups

Checkpoint = Callable[[str], Path]
NUM_BLOCKS = {
    "vit": 2,
    "convnext": 5 + 3,  # the downsampling between two stages is a separate block
    "convnextv2": 5 + 3,
    "dinov2": 2,
    "dinov2_with_registers": 2,
    "swinv2": 3 + 1,
    "resnet": 5,
    "mobilenet_v2": 16,
    "timm_wrapper": 4,
}


def settings(module: nn.Module, groups: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return learning rate and decay by parameter name; each parameter is in only one group."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    found = [
        (names[parameter], (group["lr"], group["weight_decay"]))
        for group in groups
        for parameter in group["params"]
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_rates_increase_by_block_toward_the_head(classifier: Classifier, family: str) -> None:
    rates = {
        name: lr
        for name, (lr, _) in settings(classifier, param_groups(classifier, 1.0, 0.1, 0.5)).items()
    }
    assert set(rates) == {name for name, p in classifier.named_parameters() if p.requires_grad}
    in_order = [rates[name] for name, p in classifier.named_parameters() if p.requires_grad]
    assert in_order == sorted(in_order)
    assert sorted(set(rates.values())) == [0.5**k for k in range(NUM_BLOCKS[family], -1, -1)]
    assert rates[f"model.{classifier.head_name}.weight"] == 1.0


@pytest.mark.parametrize(
    ("family", "name", "rate"),
    [
        ("vit", "vit.embeddings.position_embeddings", 0.25),
        ("vit", "vit.layers.0.layernorm_before.weight", 0.5),
        ("vit", "vit.layers.1.layernorm_before.weight", 1.0),
        ("vit", "vit.layernorm.weight", 1.0),
        ("resnet", "resnet.embedder.embedder.convolution.weight", 1 / 32),
        ("resnet", "resnet.encoder.stages.1.layers.0.layer.0.convolution.weight", 1 / 8),
        ("resnet", "resnet.encoder.stages.1.layers.0.layer.1.convolution.weight", 1 / 8),
        ("resnet", "resnet.encoder.stages.1.layers.1.layer.0.convolution.weight", 1 / 4),
        ("resnet", "resnet.encoder.stages.3.layers.0.layer.1.convolution.weight", 1.0),
        ("mobilenet_v2", "mobilenet_v2.conv_1x1.convolution.weight", 1.0),
        ("swinv2", "swinv2.encoder.layers.0.downsample.reduction.weight", 0.25),
    ],
)
def test_block_is_one_layer_of_the_stack(
    family: str, name: str, rate: float, checkpoint: Checkpoint
) -> None:
    classifier = load_classifier(str(checkpoint(family))).classifier
    groups = param_groups(classifier, 1.0, 0.1, 0.5)
    assert settings(classifier, groups)[f"model.{name}"][0] == rate


def test_matrices_and_kernels_decay_and_vectors_do_not(classifier: Classifier) -> None:
    found = settings(classifier, param_groups(classifier, 0.3, 0.1))
    layers = {name: part for name, part in classifier.named_modules()}
    for name, (lr, decay) in found.items():
        owner = layers[name.rpartition(".")[0]]
        is_weight = name.endswith("weight") and isinstance(owner, nn.Linear | nn.Conv2d)
        is_position = "position_bias" in name
        assert decay == (0.1 if is_weight and not is_position else 0.0), name
        assert lr == 0.3


def test_frozen_parameters_are_in_no_group(classifier: Classifier) -> None:
    freeze(classifier, "frozen")
    found = settings(classifier, param_groups(classifier, 1.0, 0.1, 0.5))
    head = f"model.{classifier.head_name}"
    assert found == {f"{head}.weight": (1.0, 0.1), f"{head}.bias": (1.0, 0.0)}


def test_method_parameters_use_the_full_rate(checkpoint: Checkpoint) -> None:
    method = nn.Module()
    method.classifier = load_classifier(str(checkpoint("vit"))).classifier
    method.discriminator = nn.Sequential(nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 1))
    method.temperature = nn.Parameter(torch.ones(()))
    found = settings(method, param_groups(method, 2.0, 0.1, 0.5))
    assert found["discriminator.0.weight"] == found["discriminator.2.weight"] == (2.0, 0.1)
    assert found["discriminator.0.bias"] == found["temperature"] == (2.0, 0.0)
    assert found["classifier.model.vit.embeddings.cls_token"] == (0.5, 0.0)
    assert found["classifier.model.classifier.weight"] == (2.0, 0.1)


def test_adamw_accepts_the_groups(checkpoint: Checkpoint) -> None:
    classifier = load_classifier(str(checkpoint("vit"))).classifier
    optimizer = torch.optim.AdamW(param_groups(classifier, 1e-3, 0.05, 0.65))
    rates = {group["lr"] for group in optimizer.param_groups}
    assert rates == {1e-3, 1e-3 * 0.65, 1e-3 * 0.65**2}
