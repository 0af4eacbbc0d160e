"""DinoBloom, in timm's format on the Hub: built to match its weights, and marked as exposed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import hf_wbc.models.backbones as module
from hf_wbc.models import find_backbone, load_classifier, save_classifier
from hf_wbc.models.backbones import BackboneSpec

timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'hf_wbc[timm]'")

TINY = {"embed_dim": 16, "depth": 1, "num_heads": 2}
COMMIT = "4f2a9d8" + "0" * 33


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """Cache a small DinoBloom as from the Hub, with files in timm's format.

    As on the Hub, config.json names the architecture with its 518 px, and the weights are smaller.
    """
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    known = find_backbone("dinobloom-base")
    assert known is not None
    small = {**known.model_args, **TINY, "img_size": 28}
    config = {**known.config, "model_args": small, "image_size": 28}
    ready = BackboneSpec(known.name, known.hub_id, config, known.exposure, known.exposed_to)
    monkeypatch.setattr(module, "BACKBONES", (ready,))

    torch.manual_seed(0)
    model: torch.nn.Module = timm.create_model(
        "vit_base_patch14_dinov2", num_classes=0, **{**TINY, "img_size": 28}
    )
    repository = tmp_path / "hub" / f"models--{known.hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    save_file(model.state_dict(), snapshot / "model.safetensors", metadata={"format": "pt"})
    facts = {
        "architecture": "vit_base_patch14_dinov2",
        "num_classes": 0,
        "num_features": 768,
        "global_pool": "token",
        "pretrained_cfg": {
            "tag": "lvd142m",
            "input_size": [3, 518, 518],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "num_classes": 0,
            "classifier": "head",
        },
    }
    (snapshot / "config.json").write_text(json.dumps(facts))
    return model.eval()


def test_dinobloom_matches_timm_features_at_its_own_size(published: torch.nn.Module) -> None:
    loaded = load_classifier("dinobloom-base")
    images = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features, logits = loaded.classifier(images)
        expected = published(images)
    torch.testing.assert_close(features, expected)
    assert logits.shape == (2, 11)
    assert loaded.preprocessing.size == 28
    assert loaded.preprocessing.mean == (0.485, 0.456, 0.406)
    assert loaded.revision == COMMIT


def test_dinobloom_is_marked_as_exposed(published: torch.nn.Module) -> None:
    loaded = load_classifier("dinobloom-base")
    assert loaded.exposure.startswith("EXPOSED to blood cells")
    assert {"acevedo_20", "matek_19", "mll_23", "wbc_1", "wbc_2"} == {*loaded.exposed_to}


def test_dinobloom_supports_other_sizes(published: torch.nn.Module) -> None:
    loaded = load_classifier("dinobloom-base", image_size=42)
    assert loaded.preprocessing.size == 42
    assert loaded.classifier(torch.zeros(1, 3, 42, 42)).logits.shape == (1, 11)


def test_saved_dinobloom_is_a_plain_transformers_model(
    published: torch.nn.Module, tmp_path: Path
) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    loaded = load_classifier("dinobloom-base")
    save_classifier(loaded.classifier, loaded.processor, tmp_path / "model")
    plain = AutoModelForImageClassification.from_pretrained(tmp_path / "model")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "model", backend="torchvision")
    assert processor.size == {"height": 28, "width": 28}
    images = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(plain(images).logits, loaded.classifier(images).logits)
