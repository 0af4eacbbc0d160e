"""Classifier sources, the weights they provide, and rejected inputs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hf_wbc.models import load_classifier, load_trained
from hf_wbc.models.backbones import FROM_SCRATCH, UNKNOWN
from hf_wbc.models.load import labels_of
from hf_wbc.taxonomy import NAMES

Checkpoint = Callable[[str], Path]
Make = Callable[..., Path]


@pytest.fixture
def own(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """Return a copy of the vit checkpoint that a test may change."""
    return Path(shutil.copytree(checkpoint("vit"), tmp_path / "own"))


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Disable the Hub and use an empty cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_every_family_keeps_backbone_and_gets_eleven_class_head(folder: Path) -> None:
    from transformers import AutoModelForImageClassification

    classifier = load_classifier(str(folder)).classifier
    weights = classifier.model.state_dict()
    plain = AutoModelForImageClassification.from_pretrained(folder)
    for name, expected in plain.state_dict().items():
        if not name.startswith(f"{classifier.head_name}."):
            assert torch.equal(weights[name], expected), name
    assert classifier.head.out_features == 11
    assert classifier.head.weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert not classifier.head.bias.any()
    assert labels_of(classifier.model.config) == NAMES
    assert classifier.model.config.label2id == {name: i for i, name in enumerate(NAMES)}
    assert not classifier.training


def test_new_head_depends_on_seed_and_global_rng_is_unchanged(folder: Path) -> None:
    state = torch.get_rng_state()
    heads = [load_classifier(str(folder), seed=seed).classifier.head.weight for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_fresh_weights_depend_on_seed_and_global_rng_is_unchanged(folder: Path) -> None:
    state = torch.get_rng_state()
    first, again, other = (load_classifier(str(folder), fresh=True, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    known = load_file(folder / "model.safetensors")
    differ = 0
    for (name, a), b, c in zip(
        first.classifier.model.state_dict().items(),
        again.classifier.model.state_dict().values(),
        other.classifier.model.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(a, b), name
        differ += not torch.equal(a, c) and not torch.equal(a, known.get(name, c))
    assert differ > 5
    assert first.exposure == FROM_SCRATCH
    assert first.revision == again.revision != other.revision
    assert first.classifier.head.out_features == 11


def test_named_backbone_can_start_fresh() -> None:
    loaded = load_classifier("convnextv2-atto", fresh=True, image_size=64)
    assert loaded.classifier.num_features == 320
    assert loaded.preprocessing.size == 64
    assert loaded.preprocessing.mean == loaded.preprocessing.std == (0.5, 0.5, 0.5)
    assert loaded.preprocessing.resample == 3


def test_checkpoint_of_the_eleven_classes_keeps_its_head(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "vit", "vit", labels=NAMES)
    stored = load_file(folder / "model.safetensors")["classifier.weight"]
    for loaded in (load_classifier(str(folder)), load_trained(str(folder))):
        assert torch.equal(loaded.classifier.head.weight, stored)


def test_eleven_labels_in_another_order_get_new_head(make_checkpoint: Make, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "vit", "vit", labels=NAMES[::-1])
    stored = load_file(folder / "model.safetensors")["classifier.weight"]
    classifier = load_classifier(str(folder)).classifier
    assert not torch.equal(classifier.head.weight, stored)
    assert labels_of(classifier.model.config) == NAMES
    with pytest.raises(ValueError, match=r"has the labels in another order \(lymphocyte_typical"):
        load_trained(str(folder))


def test_backbone_without_head_gets_one(own: Path) -> None:
    weights = load_file(own / "model.safetensors")
    backbone = {k.removeprefix("vit."): v for k, v in weights.items() if k.startswith("vit.")}
    save_file(backbone, own / "model.safetensors", metadata={"format": "pt"})
    classifier = load_classifier(str(own)).classifier
    name = "vit.embeddings.cls_token"
    assert torch.equal(classifier.model.state_dict()[name], weights[name])
    assert not classifier.head.bias.any()


def test_half_precision_weights_become_fp32(own: Path) -> None:
    weights = load_file(own / "model.safetensors")
    halves = {name: weight.bfloat16() for name, weight in weights.items()}
    save_file(halves, own / "model.safetensors", metadata={"format": "pt"})
    classifier = load_classifier(str(own)).classifier
    assert {parameter.dtype for parameter in classifier.parameters()} == {torch.float32}


def test_revision_depends_on_content_and_not_location(own: Path, checkpoint: Checkpoint) -> None:
    here, there = load_classifier(str(own)), load_classifier(str(checkpoint("vit")))
    assert here.revision == there.revision
    assert here.revision.startswith("sha256:")
    assert here.exposure == UNKNOWN
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-3}))
    assert load_classifier(str(own)).revision != here.revision


def _cache(cache: Path, hub_id: str, folder: Path, commit: str) -> None:
    """Write what the Hub client caches for a downloaded model."""
    repo = cache / f"models--{hub_id.replace('/', '--')}"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    shutil.copytree(folder, repo / "snapshots" / commit)


def test_hub_model_is_identified_by_its_commit(offline: Path, checkpoint: Checkpoint) -> None:
    commit = "1234567890" * 4
    _cache(offline, "facebook/dinov2-base", checkpoint("dinov2"), commit)
    for name in ("facebook/dinov2-base", "dinov2-base", f"facebook/dinov2-base@{commit}"):
        loaded = load_classifier(name)
        assert loaded.revision == commit
        assert "LVD-142M" in loaded.exposure
    with pytest.raises(ValueError, match=r"dinov2-base@other.* check its name"):
        load_classifier("facebook/dinov2-base@other")


def test_unfetchable_model_is_reported(offline: Path) -> None:
    with pytest.raises(
        ValueError, match=r"'nobody/nothing' is not a folder, and cannot be fetched"
    ):
        load_classifier("nobody/nothing")
    with pytest.raises(ValueError, match="'WinKawaks/vit-tiny-patch16-224' is not a folder"):
        load_classifier("vit-tiny")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit-tny", "did you mean 'vit-tiny'"),
        ("xyz", "choose from vit-tiny, convnextv2-atto"),
        ("/no/such/folder", "unknown model '/no/such/folder': not a built-in name, a folder"),
        ("a/b/c", "not a built-in name, a folder, or org/name"),
        ("", "unknown model ''"),
    ],
)
def test_unknown_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_classifier(name)


def test_pickled_weights_are_refused(own: Path) -> None:
    torch.save(load_file(own / "model.safetensors"), own / "pytorch_model.bin")
    (own / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"only pytorch_model.bin.*whose weights are in model.saf"):
        load_classifier(str(own))
    assert load_classifier(str(own), fresh=True).exposure == FROM_SCRATCH


def test_damaged_files_are_reported(own: Path) -> None:
    weights = (own / "model.safetensors").read_bytes()
    (own / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ValueError, match="own does not load as an image classifier"):
        load_classifier(str(own))
    (own / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="own contains no weights"):
        load_classifier(str(own))
    (own / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json (cannot be used|is damaged)"):
        load_classifier(str(own), fresh=True)
    (own / "config.json").unlink()
    with pytest.raises(ValueError, match=r"own has no config\.json"):
        load_classifier(str(own))


def test_checkpoint_with_missing_weights_is_refused(own: Path) -> None:
    weights = load_file(own / "model.safetensors")
    del weights["vit.layernorm.weight"]
    save_file(weights, own / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights of ViT.*vit\.layernorm\.weight \(1 in"):
        load_classifier(str(own))


def test_weights_of_wrong_shape_are_refused(own: Path) -> None:
    weights = load_file(own / "model.safetensors")
    weights["vit.layernorm.weight"] = torch.ones(8)
    save_file(weights, own / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights of ViT.*vit\.layernorm\.weight"):
        load_classifier(str(own))


def test_non_image_model_is_refused(own: Path) -> None:
    (own / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="does not load as an image classifier"):
        load_classifier(str(own))
    with pytest.raises(ValueError, match=r"config\.json cannot be used.*nonesuch"):
        (own / "config.json").write_text(json.dumps({"model_type": "nonesuch"}))
        load_classifier(str(own))


def test_custom_model_code_is_never_run(own: Path) -> None:
    config = json.loads((own / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.MyConfig"}}
    (own / "config.json").write_text(json.dumps(config))
    (own / "mine.py").write_text("raise SystemExit('ran foreign code')")
    with pytest.raises(ValueError, match=r"config\.json cannot be used"):
        load_classifier(str(own))


def test_pretrained_weights_without_processor_are_refused(own: Path) -> None:
    (own / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"own has no preprocessor_config\.json"):
        load_classifier(str(own))
    assert load_classifier(str(own), fresh=True).preprocessing.mean == (0.5, 0.5, 0.5)


def test_model_with_other_labels_is_not_a_trained_model(checkpoint: Checkpoint) -> None:
    with pytest.raises(
        ValueError, match=r"lacks basophil, .*; it has other labels: cat, dog, horse\."
    ):
        load_trained(str(checkpoint("vit")))


def test_model_averaging_two_heads_is_refused(tmp_path: Path) -> None:
    from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher, ViTImageProcessor

    config = DeiTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=16, patch_size=8
    )
    DeiTForImageClassificationWithTeacher(config).save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="its logits are not the output"):
        load_classifier(str(tmp_path))


def test_real_mobilenet_weights_load(shared: Path) -> None:
    folder = shared / "weights" / "mobilenet_v2_1.0_224_imagenet"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    loaded = load_classifier(str(folder))
    assert loaded.classifier.num_features == 1280
    assert loaded.preprocessing.size == 224
    images: Tensor = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, logits = loaded.classifier(images)
    torch.testing.assert_close(loaded.classifier.head(features), logits)
