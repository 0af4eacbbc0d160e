"""Frozen modules stay unchanged, whoever calls train()."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hf_wbc.models import Classifier, freeze, load_classifier

Checkpoint = Callable[[str], Path]
Draw = Callable[[str], Tensor]


@pytest.fixture
def resnet(checkpoint: Checkpoint) -> Classifier:
    return load_classifier(str(checkpoint("resnet"))).classifier


def step(method: nn.Module, classifier: Classifier, images: Tensor) -> dict[str, bool]:
    """Take one gradient-descent step in training mode; return the changed state entries."""
    before = {name: value.clone() for name, value in classifier.model.state_dict().items()}
    method.train()
    classifier(images).logits.square().sum().backward()
    learning = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    torch.optim.SGD(learning, lr=1.0).step()
    after = classifier.model.state_dict()
    return {name: not torch.equal(after[name], value) for name, value in before.items()}


def test_frozen_backbone_trains_only_its_head(classifier: Classifier, images: Tensor) -> None:
    freeze(classifier, "frozen")
    moved = step(nn.ModuleList([classifier]), classifier, images)  # train() is called from outside
    assert {name for name, has in moved.items() if has} == {
        f"{classifier.head_name}.weight",
        f"{classifier.head_name}.bias",
    }


def test_frozen_backbone_has_no_dropout_before_its_head(
    checkpoint: Checkpoint, draw_images: Draw
) -> None:
    classifier = load_classifier(str(checkpoint("mobilenet_v2"))).classifier
    images = draw_images("mobilenet_v2")
    expected = classifier(images).features
    freeze(classifier, "frozen")
    assert torch.equal(classifier.train()(images).features, expected)
    assert classifier.training


def test_all_weights_move_when_unfrozen(resnet: Classifier, draw_images: Draw) -> None:
    freeze(resnet)
    moved = step(resnet, resnet, draw_images("resnet"))
    assert all(has for name, has in moved.items() if name.endswith(("running_mean", "weight")))


def test_frozen_batch_norm_keeps_statistics_and_learns_scale(
    resnet: Classifier, draw_images: Draw
) -> None:
    freeze(resnet, "full", "frozen")
    moved = step(nn.Sequential(resnet), resnet, draw_images("resnet"))
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert not any(has for name, has in moved.items() if name.endswith(statistics))
    assert moved["resnet.embedder.embedder.normalization.weight"]
    assert moved["resnet.embedder.embedder.convolution.weight"]


def test_freezing_takes_effect_immediately(resnet: Classifier, draw_images: Draw) -> None:
    resnet.train()
    freeze(resnet, "frozen")
    images = draw_images("resnet")
    alone, together = resnet(images[:1]).logits, resnet(images).logits[:1]
    torch.testing.assert_close(alone, together)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("half", "train"), "trainable is 'half'; choose from full, frozen, lora"),
        (("full", "off"), "batch_norm is 'off'; choose from train, frozen"),
    ],
)
def test_unknown_option_is_refused(
    resnet: Classifier, words: tuple[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        freeze(resnet, *words)  # type: ignore[arg-type]
