"""A small grid between two tiny laboratories, shared by the tests that run a study."""

import gc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from hf_wbc.config import TrainConfig
from hf_wbc.records import RunFolder

MEASURED = ("cost", "machine", "packages")


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fork workers, which start instantly with all imports of this process.

    A fork must not collect garbage of this process: objects with threads, such as those of
    OpenVINO, abort there.
    """
    monkeypatch.setattr("hf_wbc.study.worker.START", "fork")
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def short(laboratories: tuple[str, str], tiny_model: str) -> TrainConfig:
    """Configure a run that takes about a second."""
    home, away = laboratories
    return TrainConfig(
        sources=(home,),
        target=(away,),
        model=tiny_model,
        steps=6,
        batch_size=8,
        eval_steps=2,
        learning_rate=1e-2,
    )


@pytest.fixture
def failing(short: TrainConfig) -> TrainConfig:
    """Configure a run whose loss becomes non-finite."""
    return short.replace(learning_rate=1e30, max_grad_norm=0.0)


@pytest.fixture(scope="session")
def assert_same_run() -> Callable[[RunFolder, RunFolder], None]:
    """Assert that two finished runs agree in everything but their duration."""
    return _assert_same_run


@pytest.fixture
def write_grid(tmp_path: Path) -> Callable[..., str]:
    """Write a study file: a configuration and every combination of some fields' values."""
    return partial(_write_grid, tmp_path / "grid.py")


def _assert_same_run(a: RunFolder, b: RunFolder) -> None:
    first, second = (folder.read_record() for folder in (a, b))
    for part in MEASURED:
        del first[part], second[part]
    assert first == second
    assert a.predictions.read_bytes() == b.predictions.read_bytes()
    weights = [load_file(folder.model / "model.safetensors") for folder in (a, b)]
    assert weights[0].keys() == weights[1].keys()
    for name in weights[0]:
        np.testing.assert_array_equal(weights[0][name], weights[1][name], err_msg=name)


def _write_grid(path: Path, config: TrainConfig, **choices: Any) -> str:
    path.write_text(
        "from dataclasses import replace\nfrom itertools import product\n"
        "from hf_wbc.config import TrainConfig\n"
        f"CHOICES = {choices!r}\n"
        f"def study():\n    config = TrainConfig.from_dict({config.to_dict()!r})\n"
        "    return [replace(config, **dict(zip(CHOICES, values)))\n"
        "            for values in product(*CHOICES.values())]\n",
        encoding="utf-8",
    )
    return str(path)
