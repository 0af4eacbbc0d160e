"""A short run between two tiny laboratories, shared by the tests of the engine."""

import pytest

from hf_wbc.config import TrainConfig


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
