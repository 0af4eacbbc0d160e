"""Saved models work without hf_wbc."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageClassification, pipeline

from hf_wbc.models import (
    Classifier,
    LogitAffine,
    PretrainedModel,
    export_classifier,
    load_classifier,
    load_trained,
    save_classifier,
)
from hf_wbc.taxonomy import NAMES


@pytest.fixture
def crop() -> Image.Image:
    """Draw a 25 um crop of 250 px: noise."""
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (250, 250, 3), dtype=np.uint8))


@pytest.fixture
def loaded(folder: Path, crop: Image.Image) -> PretrainedModel:
    """Load each family, with logits of about 1 so that no probability is close to 0 or 1."""
    loaded = load_classifier(str(folder))
    head = loaded.classifier.head
    with torch.no_grad():
        size = loaded.classifier(pixels(loaded, crop)).features.norm()
        head.weight.normal_(generator=torch.Generator().manual_seed(3)).div_(size)
    return loaded


def pixels(loaded: PretrainedModel, crop: Image.Image) -> torch.Tensor:
    values: torch.Tensor = loaded.processor(crop, return_tensors="pt")["pixel_values"]
    return values


@pytest.fixture
def saved(loaded: PretrainedModel, tmp_path: Path) -> Path:
    save_classifier(loaded.classifier, loaded.processor, tmp_path / "deep" / "model")
    return tmp_path / "deep" / "model"


def test_plain_transformers_loads_same_logits(
    loaded: PretrainedModel, saved: Path, images: torch.Tensor
) -> None:
    model, report = AutoModelForImageClassification.from_pretrained(saved, output_loading_info=True)
    assert {name: list(found) for name, found in report.items() if found} == {}
    assert type(model) is type(loaded.classifier.model)
    with torch.no_grad():
        assert torch.equal(model.eval()(images).logits, loaded.classifier(images).logits)
    assert tuple(model.config.id2label.values()) == NAMES
    assert model.config.label2id == {name: index for index, name in enumerate(NAMES)}


def test_pipeline_gives_same_probabilities_by_name(
    loaded: PretrainedModel, saved: Path, crop: Image.Image
) -> None:
    with torch.no_grad():
        expected = loaded.classifier(pixels(loaded, crop)).logits.softmax(1)[0]
    answers: list[dict[str, Any]] = pipeline("image-classification", str(saved))(crop, top_k=11)
    actual = {answer["label"]: answer["score"] for answer in answers}
    assert expected.min() > 1e-3 and expected.max() < 0.9
    torch.testing.assert_close(
        torch.tensor([actual[name] for name in NAMES]), expected, atol=1e-6, rtol=0
    )


def test_saved_model_loads_as_trained_model(
    loaded: PretrainedModel, saved: Path, images: torch.Tensor
) -> None:
    again = load_trained(str(saved))
    assert again.preprocessing == loaded.preprocessing
    with torch.no_grad():
        assert torch.equal(again.classifier(images).logits, loaded.classifier(images).logits)


def test_folder_contains_only_safetensors_and_configuration(saved: Path) -> None:
    names = {file.name for file in saved.iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json"}


@pytest.fixture
def vit(checkpoint: Callable[[str], Path]) -> PretrainedModel:
    return load_classifier(str(checkpoint("vit")))


def test_saving_again_replaces_whole_folder(vit: PretrainedModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()
    save_classifier(vit.classifier, vit.processor, folder)
    assert not (folder / "old").exists()
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_failed_save_keeps_existing_folder(vit: PretrainedModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()

    class FullDisk:
        def save_pretrained(self, folder: Path) -> None:
            raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        save_classifier(vit.classifier, FullDisk(), folder)
    assert [file.name for file in folder.iterdir()] == ["old"]
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_abstention_round_trips_and_is_not_saved_again(
    loaded: PretrainedModel, tmp_path: Path
) -> None:
    known = {"temperature": 1.5, "sets": {"class": {"thresholds": [0.5, None]}}}
    path = tmp_path / "model"
    save_classifier(loaded.classifier, loaded.processor, path, abstention=known)
    again = load_trained(str(path))
    assert again.abstention == known
    AutoModelForImageClassification.from_pretrained(path)  # which ignores it
    save_classifier(again.classifier, again.processor, path)
    assert load_trained(str(path)).abstention is None


@torch.no_grad()
def test_export_merges_bottleneck_and_logit_maps_into_a_copy(
    classifier: Classifier, images: torch.Tensor
) -> None:
    classifier.add_bottleneck(4, seed=0)
    classifier.train()(images)  # updates the bottleneck's running statistics
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    bias = torch.arange(11.0)
    exported = export_classifier(
        classifier, [LogitAffine(0.5, torch.zeros(11)), LogitAffine(2.0, bias)]
    )
    assert exported.bottleneck is None and not exported.training
    assert classifier.bottleneck is not None and classifier.training
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())
    expected = classifier.eval()(images).logits + bias
    torch.testing.assert_close(exported(images).logits, expected, atol=1e-5, rtol=1e-4)
    plain = exported.model(pixel_values=images).logits
    assert torch.equal(plain, exported(images).logits)
