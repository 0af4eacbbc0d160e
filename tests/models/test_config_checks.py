"""Model folders with absurd settings are refused at once, each with its specific reason."""

import json
import shutil
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_wbc.models import load_classifier

CONFIG, PROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
ABSURD: dict[str, tuple[str, Mapping[str, Any], str]] = {
    "image size": (CONFIG, {"image_size": 100_000}, "image size is 100,000 px"),
    "image sizes": (CONFIG, {"image_size": [224, 100_000]}, "image size is 100,000 px"),
    "negative image size": (CONFIG, {"image_size": -32}, "image_size is -32"),
    "no image": (CONFIG, {"image_size": 0}, "image size is 0 px"),
    "labels": (CONFIG, {"num_labels": 10**9}, "num_labels is 1,000,000,000"),
    "classes": (CONFIG, {"num_classes": 10**9}, "num_classes is 1,000,000,000"),
    "negative labels": (CONFIG, {"num_labels": -1}, "num_labels is -1"),
    "label ids": (CONFIG, {"id2label": {"1000000000": "a"}}, "id2label does not number"),
    "no label ids": (CONFIG, {"id2label": {"a": "b"}}, "id2label does not number"),
    "negative width": (CONFIG, {"hidden_size": -16}, "hidden_size is -16"),
    "width": (CONFIG, {"intermediate_size": 10**12}, "intermediate_size is 1,000,000,000,000"),
    "width of many": (CONFIG, {"intermediate_size": 200_000, "hidden_size": 100_000}, "weights"),
    "layers": (CONFIG, {"num_hidden_layers": 10**9}, "num_hidden_layers is 1,000,000,000"),
    "many layers": (CONFIG, {"num_hidden_layers": 200_000}, "200,000 layers"),
    "sum of layers": (CONFIG, {"depths": [1999], "num_hidden_layers": 2}, "2,001 layers"),
    "members": (CONFIG, {"members": [{"model_type": "vit"}] * 101}, "100 members"),
    "nested members": (CONFIG, {"members": [{"members": [{}] * 99}] * 2}, "100 members"),
    "no members": (CONFIG, {"members": [1]}, "members is no list"),
    "no patches": (CONFIG, {"patch_size": 0}, "patches of 0 px"),
    "tiny patches": (CONFIG, {"image_size": 2000, "patch_size": 1}, "patches of 1 px"),
    "NaN": (CONFIG, {"layer_norm_eps": float("nan")}, "layer_norm_eps is nan"),
    "text for a number": (CONFIG, {"hidden_size": "wide"}, "own"),
    "list for a number": (CONFIG, {"num_attention_heads": [2]}, "own"),
    "std": (PROCESSOR, {"image_std": [0.5, 0, 0.5]}, "std"),
    "negative std": (PROCESSOR, {"image_std": [-0.5, 0.5, 0.5]}, "std"),
    "NaN std": (PROCESSOR, {"image_std": [float("nan"), 1, 1]}, "std"),
    "mean": (PROCESSOR, {"image_mean": [float("inf"), 0, 0]}, "mean is"),
    "two channels": (PROCESSOR, {"image_mean": [0.5, 0.5]}, "three"),
    "input": (PROCESSOR, {"size": {"height": 10**6, "width": 10**6}}, "size"),
    "negative input": (PROCESSOR, {"size": {"height": -32, "width": -32}}, "size"),
    "rule": (CONFIG, {"hf_wbc_images": [1]}, "hf_wbc_images .*damaged"),
    "blur": (CONFIG, {"hf_wbc_images": {"rule": {"blur_um": 1e12}}}, "impossible blur"),
}


@pytest.fixture
def own(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """Return a copy of the vit checkpoint that a test may change."""
    return Path(shutil.copytree(checkpoint("vit"), tmp_path / "own"))


@pytest.mark.parametrize("case", ABSURD)
def test_absurd_setting_is_refused_with_little_memory(case: str, own: Path) -> None:
    file, changes, words = ABSURD[case]
    facts = json.loads((own / file).read_text())
    (own / file).write_text(json.dumps({**facts, **changes}))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=words):
            load_classifier(str(own))
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 200_000, "nested too deeply"),
        ('{"a": ' * 60 + "1" + "}" * 60, "nested too deeply"),
        ("[]", "holds no settings"),
        ("{", "no JSON"),
        ("\udcff", "no JSON"),
        (" " * (17 << 20), "too many for a configuration"),
    ],
    ids=["brackets", "objects", "list", "cut", "no text", "long"],
)
def test_invalid_config_is_refused(text: str, words: str, own: Path) -> None:
    (own / CONFIG).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=words):
        load_classifier(str(own))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_weights_are_refused(value: float, own: Path) -> None:
    weights = load_file(own / WEIGHTS)
    name = next(name for name, each in weights.items() if "layer" in name)
    weights[name].view(-1)[0] = value
    save_file(weights, own / WEIGHTS, {"format": "pt"})
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        load_classifier(str(own))


def test_random_initialization_has_same_limits(own: Path) -> None:
    with pytest.raises(ValueError, match="image size is 100,000 px"):
        load_classifier(str(own), fresh=True, image_size=100_000)
    facts = json.loads((own / CONFIG).read_text())
    (own / CONFIG).write_text(json.dumps({**facts, "image_size": 1024, "patch_size": 1}))
    with pytest.raises(ValueError, match="patches of 1 px"):
        load_classifier(str(own), fresh=True)


def test_model_of_any_family_passes(folder: Path) -> None:
    assert torch.isfinite(load_classifier(str(folder)).classifier.head.weight).all()
