"""A network cut before its last block computes what the whole network does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.labeling.cut_network import CutNetwork
from hf_wbc.labeling.pool import CellImages
from hf_wbc.models import Classifier, PretrainedModel, load_classifier
from tests.models.conftest import FAMILIES, SIZES, write_checkpoint

NAMES = [f"{number}.png" for number in range(3)]


class CountedImages:
    """Images of noise, and the names of those that were read."""

    def __init__(self, size: int) -> None:
        self.squares = np.random.default_rng(0).integers(0, 255, (3, size, size, 3), np.uint8)
        self.names: list[str] = []

    def read(self, names: Sequence[str]) -> Mapping[str, NDArray[np.uint8]]:
        self.names += names
        return {name: self.squares[NAMES.index(name)] for name in names}


def loaded(family: str, folder: Path) -> PretrainedModel:
    if family == "timm_wrapper":
        pytest.importorskip("timm")
    return load_classifier(str(write_checkpoint(folder / family, family)))


def preprocessing(pretrained: PretrainedModel, flips: bool = False) -> ImagePreprocessing:
    return ImagePreprocessing(
        pretrained.preprocessing.mean, pretrained.preprocessing.std, flips=flips
    )


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("family", FAMILIES)
def test_cut_network_gives_the_features_of_the_whole(family: str, tmp_path: Path) -> None:
    pretrained = loaded(family, tmp_path)
    images = CountedImages(SIZES.get(family, 32))
    own = preprocessing(pretrained)
    network = CutNetwork(pretrained, CellImages(images.read, own))
    inputs = network.inputs(NAMES)
    with torch.no_grad():
        pixels = torch.from_numpy(images.squares)
        expected = pretrained.classifier.eval()(preprocess(pixels, own)).features
    weights = {name: value.clone().requires_grad_() for name, value in network.start.items()}
    found = network.features(weights, inputs)
    assert torch.allclose(found, expected, atol=1e-5)
    torch.autograd.backward(found.square().sum())
    assert weights and all(each.grad is not None for each in weights.values())
    assert not any(name.startswith("head") for name in weights)
    rows = network.features(network.start, inputs[1:])
    assert torch.allclose(rows, expected[1:], atol=1e-5)


def test_features_are_means_over_mirrored_images(tmp_path: Path) -> None:
    pretrained, images = loaded("convnext", tmp_path), CountedImages(32)
    own = preprocessing(pretrained, flips=True)
    network = CutNetwork(pretrained, CellImages(images.read, own))
    inputs = network.inputs(NAMES)
    with torch.no_grad():
        normal = preprocess(torch.from_numpy(images.squares), own)
        views = [pretrained.classifier(normal.flip(axes)).features for axes in ((), 2, 3, (2, 3))]
        found = network.features(network.start, inputs)
    assert inputs.shape[:2] == (3, 4)
    assert torch.allclose(found, torch.stack(views).mean(0), atol=1e-5)


def test_each_image_is_read_once_unless_memory_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrained, images = loaded("vit", tmp_path), CountedImages(32)
    network = CutNetwork(pretrained, CellImages(images.read, preprocessing(pretrained)))
    first = network.inputs(NAMES[:2])
    both = network.inputs(NAMES)
    assert images.names == NAMES and (both[:2] == first).all()
    monkeypatch.setattr("hf_wbc.labeling.cut_network.KEPT_BYTES", 0)
    forgetful = CutNetwork(pretrained, CellImages(images.read, preprocessing(pretrained)))
    assert torch.allclose(forgetful.inputs(NAMES), both)
    assert torch.allclose(forgetful.inputs(NAMES), both)
    assert images.names == NAMES * 3


class EarlyFeatures(torch.nn.Module):
    """A ViT whose head also needs what is before the first block."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.config, self.model = model.config, model

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        states = self.model.vit(pixel_values=pixel_values, output_hidden_states=True).hidden_states
        return SimpleNamespace(logits=self.model.classifier((states[-1] * states[0]).mean(1)))


class RepeatedBlocks(EarlyFeatures):
    """A ViT that sees each image twice."""

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        views = (pixel_values, pixel_values.flip(2))
        found = [self.model.vit(pixel_values=each).last_hidden_state[:, 0] for each in views]
        return SimpleNamespace(logits=self.model.classifier(found[0] * found[1]))


@pytest.mark.parametrize("kind", [EarlyFeatures, RepeatedBlocks])
def test_network_that_cannot_be_cut_is_reported(kind: type[EarlyFeatures], tmp_path: Path) -> None:
    pretrained, images = loaded("vit", tmp_path), CountedImages(32)
    strange = replace(pretrained, classifier=Classifier(kind(pretrained.classifier.model)).eval())
    network = CutNetwork(strange, CellImages(images.read, preprocessing(pretrained)))
    with pytest.raises(ValueError, match=f"{kind.__name__} cannot be cut .* logistic"):
        network.inputs(NAMES)
