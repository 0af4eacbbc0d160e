"""Two tiny laboratories and a tiny model, shared by the tests of the engine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hf_wbc.config import TrainConfig


@pytest.fixture(scope="session")
def laboratories(
    make_domain: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """A source and a target; the target's colours are others."""
    root = tmp_path_factory.mktemp("laboratories")
    home = make_domain(root / "home", name="home", seed=1)
    away = make_domain(root / "away", name="away", seed=2, background=(180, 200, 240))
    return str(home), str(away)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a one-layer ViT for images of 28 px, with random weights and other labels."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("models") / "tiny_vit"
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=28,
        patch_size=14,
        num_labels=3,
    )
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def config(laboratories: tuple[str, str], tiny_model: str) -> TrainConfig:
    """A run of a few steps at home, scored away."""
    home, away = laboratories
    return TrainConfig(
        sources=(home,),
        target=(away,),
        model=tiny_model,
        steps=6,
        batch_size=8,
        evaluate_every=2,
        lr=1e-2,
        ema=0.5,
        accumulation=2,
    )
