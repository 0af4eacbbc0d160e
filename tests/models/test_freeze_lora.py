"""LoRA starts equal to its base model, trains only its updates, and exports a plain model."""

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hf_wbc.models import (
    Classifier,
    Lora,
    export_classifier,
    freeze,
    load_classifier,
    merge_lora,
    param_groups,
    save_classifier,
)
from hf_wbc.models.freeze import attention_layers
from hf_wbc.models.param_groups import block_depths

pytest.importorskip("peft", reason="peft is not installed: the extra lora")

NUM_LAYERS = {"vit": 8, "dinov2": 8, "dinov2_with_registers": 8, "swinv2": 12}
"""Number of adapted layers: query, key, value, and output of each attention."""
WITHOUT = ("convnext", "convnextv2", "resnet", "mobilenet_v2", "timm_wrapper")
Checkpoint = Callable[[str], Path]
Draw = Callable[[str], Tensor]


@pytest.fixture(params=NUM_LAYERS)
def adaptable(request: pytest.FixtureRequest) -> str:
    """Return each family with attention in turn."""
    name: str = request.param
    return name


@pytest.fixture
def model(adaptable: str, checkpoint: Checkpoint) -> Classifier:
    return load_classifier(str(checkpoint(adaptable))).classifier


def train(classifier: Classifier, images: Tensor, steps: int = 3) -> None:
    """Take a few large AdamW steps through the parameter groups."""
    classifier.train()
    optimizer = torch.optim.AdamW(param_groups(classifier, 0.05, 0.01, 0.9))
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(
            classifier(images).logits, torch.tensor([3, 7])
        ).backward()
        optimizer.step()
    classifier.eval()


def test_only_attention_layers_and_head_are_adapted(adaptable: str, model: Classifier) -> None:
    layers = attention_layers(model)
    assert len(layers) == NUM_LAYERS[adaptable]
    assert not any("bias_mlp" in name or "mlp" in name.split(".") for name in layers)
    freeze(model, "lora")
    learning = {name for name, value in model.model.named_parameters() if value.requires_grad}
    head = {f"{model.head_name}.weight", f"{model.head_name}.bias"}
    assert head < learning
    assert len(learning - head) == 2 * len(layers)
    assert all(".lora_" in name for name in learning - head)


def test_initial_lora_matches_base_model(
    adaptable: str, model: Classifier, draw_images: Draw
) -> None:
    images = draw_images(adaptable)
    expected = model(images).logits
    freeze(model, "lora", lora=Lora(rank=3, alpha=6))
    assert torch.equal(model(images).logits, expected)


def test_lora_update_matches_formula(adaptable: str, model: Classifier, draw_images: Draw) -> None:
    """Check against a copy with explicitly changed weights: W + (alpha / rank) B A."""
    by_hand = copy.deepcopy(model)
    freeze(model, "lora", lora=Lora(rank=2, alpha=5.0))
    images = draw_images(adaptable)
    train(model, images)
    state = model.model.state_dict()
    with torch.no_grad():
        for name in attention_layers(by_hand):
            down, up = (state[f"{name}.lora_{half}.default.weight"] for half in "AB")
            assert down.shape[0] == up.shape[1] == 2 and up.any()
            by_hand.model.get_submodule(name).weight += 5.0 / 2 * up @ down
        by_hand.head.load_state_dict(model.head.state_dict())
    torch.testing.assert_close(model(images), by_hand(images), atol=1e-5, rtol=1e-4)


def test_merged_and_saved_model_is_plain_and_equal(
    adaptable: str, model: Classifier, draw_images: Draw, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    from transformers import AutoModelForImageClassification

    names = list(model.model.state_dict())
    freeze(model, "lora")
    images = draw_images(adaptable)
    train(model, images)
    adapted = model(images)
    exported = export_classifier(model)
    torch.testing.assert_close(model(images), adapted)  # exporting does not change the model
    merge_lora(model)
    merged = model(images)
    assert torch.equal(exported(images).logits, merged.logits)
    torch.testing.assert_close(merged, adapted, atol=1e-5, rtol=1e-4)
    assert list(model.model.state_dict()) == names
    processor = load_classifier(str(checkpoint(adaptable))).processor
    save_classifier(model, processor, tmp_path / "model")
    plain, report = AutoModelForImageClassification.from_pretrained(
        tmp_path / "model", output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]
    with torch.no_grad():
        assert torch.equal(plain(images).logits, merged.logits)
    assert not {file.name for file in (tmp_path / "model").iterdir()} - {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }


def test_updates_depend_on_seed_and_global_rng_is_unchanged(checkpoint: Checkpoint) -> None:
    state, drawn = torch.get_rng_state(), []
    for seed in (0, 0, 1):
        classifier = load_classifier(str(checkpoint("vit"))).classifier
        freeze(classifier, "lora", seed=seed)
        values = classifier.model.state_dict()
        drawn.append(torch.cat([v.flatten() for k, v in values.items() if ".lora_A." in k]))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    assert drawn[0].abs().max() <= 16**-0.5  # one over the square root of the width, as in peft
    assert torch.equal(torch.get_rng_state(), state)


def test_updates_use_depth_of_their_layers(model: Classifier) -> None:
    before = block_depths(model)
    freeze(model, "lora")
    after = block_depths(model)
    for name, depth in after.items():
        plain, _, _ = name.replace(".base_layer", "").partition(".lora_")
        key = plain if plain in before else f"{plain}.weight"
        assert depth == before[key], name


@pytest.mark.parametrize("family", WITHOUT)
def test_family_without_attention_is_refused(family: str, checkpoint: Checkpoint) -> None:
    classifier = load_classifier(str(checkpoint(family))).classifier
    with pytest.raises(ValueError, match=r"has none; use vit, dinov2.*--trainable full"):
        freeze(classifier, "lora")


def test_timm_transformer_is_adapted(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

    assert timm
    args = {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 28, "patch_size": 14}
    config = TimmWrapperConfig(architecture="vit_tiny_patch16_224", model_args=args, num_labels=11)
    classifier = Classifier(TimmWrapperForImageClassification(config))
    assert [name.rpartition(".")[2] for name in attention_layers(classifier)] == ["qkv", "proj"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"rank": 0}, "lora_rank is 0"), ({"alpha": -1.0}, "lora_alpha is -1.0")],
)
def test_invalid_lora_size_is_reported(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lora(**options)  # type: ignore[arg-type]


def test_missing_peft_names_the_remedy(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = load_classifier(str(checkpoint("vit"))).classifier
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name, *more: None if name == "peft" else find(name, *more),
    )
    with pytest.raises(ValueError, match=r"its extra: pip install '\.\[lora\]'"):
        freeze(classifier, "lora")
