"""A short run between two tiny laboratories, shared by the engine tests."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run


@pytest.fixture
def config(laboratories: tuple[str, str], tiny_model: str) -> TrainConfig:
    """Configure a run of a few steps from the source, scored on the target."""
    home, away = laboratories
    return TrainConfig(
        sources=(home,),
        target=(away,),
        model=tiny_model,
        steps=6,
        batch_size=8,
        eval_steps=2,
        learning_rate=1e-2,
        ema=0.5,
        gradient_accumulation_steps=2,
    )


@pytest.fixture(scope="session")
def shared_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of undisturbed runs and their cache, for tests that only read a run.

    `run` returns a finished run at once, so that tests of the same configuration share it.
    """
    return tmp_path_factory.mktemp("shared_runs")


class Interrupted(Exception):
    """Stands for anything that ends a process."""


@pytest.fixture
def interrupt() -> Callable[[int, TrainConfig, Path, Path], None]:
    """Start a run with the given run and cache folders, and interrupt it when it reports a step."""

    def until(step: int, config: TrainConfig, runs: Path, cache: Path) -> None:
        def report(row: Mapping[str, Any]) -> None:
            if row["step"] == step:
                raise Interrupted

        with pytest.raises(Interrupted):
            run(config, runs, cache, on_progress=report)

    return until
