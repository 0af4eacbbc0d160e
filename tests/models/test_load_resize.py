"""Pre-trained models at an input size other than their own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageClassification

from hf_wbc.models import load_classifier
from hf_wbc.models.load import resize_model

Checkpoint = Callable[[str], Path]


@pytest.mark.parametrize(
    ("family", "size"), [("vit", 48), ("vit", 16), ("dinov2", 56), ("dinov2_with_registers", 56)]
)
def test_resized_positions_match_family_interpolation(
    family: str, size: int, checkpoint: Checkpoint
) -> None:
    plain = AutoModelForImageClassification.from_pretrained(checkpoint(family)).eval()
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    options = {"interpolate_pos_encoding": True} if family == "vit" else {}
    with torch.no_grad():
        expected = plain(images, **options).logits
        actual = resize_model(plain, size)(images).logits
    torch.testing.assert_close(actual, expected)


def test_resized_model_has_other_position_embeddings(checkpoint: Checkpoint) -> None:
    own, larger = (load_classifier(str(checkpoint("vit")), image_size=s) for s in (32, 48))
    shapes = [x.classifier.model.vit.embeddings.position_embeddings.shape for x in (own, larger)]
    assert shapes == [(1, 17, 16), (1, 37, 16)]
    assert larger.classifier.model.config.image_size == 48
    assert larger.preprocessing.size == larger.processor.size["height"] == 48


@pytest.mark.parametrize("fresh", [True, False])
def test_every_family_supports_other_sizes(
    family: str, checkpoint: Checkpoint, fresh: bool
) -> None:
    size = 56 if family.startswith("dinov2") else 64
    loaded = load_classifier(str(checkpoint(family)), image_size=size, fresh=fresh)
    assert loaded.preprocessing.size == size
    logits = loaded.classifier(torch.zeros(1, 3, size, size)).logits
    assert logits.shape == (1, 11)


@pytest.mark.parametrize("fresh", [True, False])
def test_size_not_divisible_by_patch_is_refused(checkpoint: Checkpoint, fresh: bool) -> None:
    with pytest.raises(
        ValueError, match="image size 50 is not a multiple of its patch size, 14 px"
    ):
        load_classifier(str(checkpoint("dinov2")), image_size=50, fresh=fresh)


def test_fixed_shape_weights_are_refused() -> None:
    from transformers import BeitConfig, BeitForImageClassification

    config = BeitConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=16,
        patch_size=8,
        use_relative_position_bias=True,
    )
    with pytest.raises(ValueError, match=r"cannot take images of 32 px: .* has a fixed shape"):
        resize_model(BeitForImageClassification(config), 32)


def test_timm_vit_size_is_fixed(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    from transformers import TimmWrapperConfig

    config = TimmWrapperConfig(
        architecture="vit_tiny_patch16_224",
        model_args={"img_size": 32, "depth": 1, "embed_dim": 12},
        pretrained_cfg={"input_size": [3, 32, 32], "interpolation": "bicubic"},
    )
    AutoModelForImageClassification.from_config(config).save_pretrained(tmp_path)
    assert load_classifier(str(tmp_path)).preprocessing.size == 32
    with pytest.raises(ValueError, match="cannot take images of 48 px"):
        load_classifier(str(tmp_path), image_size=48)
