"""A LoRA run yields a plain model, resumes bit-exactly, and averages its updates."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file

from hf_wbc.config import TrainConfig
from hf_wbc.data.dataset import load_split
from hf_wbc.engine.run import run
from hf_wbc.records import RunFolder

pytest.importorskip("peft", reason="peft is not installed: pip install 'hf_wbc[lora]'")


class Interrupted(Exception):
    """Stands in for anything that ends a process."""


@pytest.fixture
def adapted(config: TrainConfig) -> TrainConfig:
    """Combine LoRA with averaged weights and layer-wise rates, as in practice."""
    return config.replace(trainable="lora", lora_rank=2, layer_decay=0.8, ema=0.5)


def weights(folder: RunFolder) -> dict[str, np.ndarray]:
    return load_file(folder.model / "model.safetensors")


def test_only_attention_and_head_move_and_are_counted(
    adapted: TrainConfig, shared_runs: Path
) -> None:
    folder = run(adapted, shared_runs, shared_runs / "cache")
    before, after = load_file(Path(adapted.model.name) / "model.safetensors"), weights(folder)
    assert before.keys() == after.keys()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    kinds = {name.rpartition("attention.")[2] for name in moved if "attention" in name}
    assert kinds == {"query.weight", "key.weight", "value.weight", "output.dense.weight"}
    assert {name for name in moved if "attention" not in name} == {
        "classifier.weight",
        "classifier.bias",
    }
    model = folder.read_record()["model"]
    assert model["num_parameters"] == sum(value.size for value in after.values())
    assert model["num_trained"] == 4 * 2 * (16 + 16) + 11 * (16 + 1)


def test_saved_model_reproduces_predictions_of_run(adapted: TrainConfig, shared_runs: Path) -> None:
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    folder = run(adapted, shared_runs, shared_runs / "cache")
    model = AutoModelForImageClassification.from_pretrained(folder.model)
    processor = AutoImageProcessor.from_pretrained(folder.model, backend="torchvision")
    images = list(load_split(adapted.data.target[0], "test").dataset["image"])
    with torch.no_grad():
        logits = model(**processor(images, return_tensors="pt")).logits.numpy()
    rows = [row for row in pq.read_table(folder.predictions).to_pylist() if row["domain"] == "away"]
    np.testing.assert_allclose([row["logits"] for row in rows], logits, atol=1e-4)


@pytest.mark.parametrize("step", [pytest.param(1, marks=(pytest.mark.slow, pytest.mark.ci)), 4])
def test_interrupted_run_resumes_to_same_weights(
    adapted: TrainConfig, tmp_path: Path, shared_runs: Path, step: int
) -> None:
    def report(row: Mapping[str, Any]) -> None:
        if row["step"] == step:
            raise Interrupted

    whole = run(adapted, shared_runs, shared_runs / "cache")
    with pytest.raises(Interrupted):
        run(adapted, tmp_path / "halves", tmp_path / "cache", on_progress=report)
    halves = run(adapted, tmp_path / "halves", tmp_path / "cache")
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(value, weights(halves)[name], err_msg=name)


def test_lora_on_features_is_rejected(adapted: TrainConfig) -> None:
    with pytest.raises(ValueError, match="use --inputs images"):
        adapted.replace(inputs="features")
