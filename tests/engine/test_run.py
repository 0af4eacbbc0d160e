"""A run learns, is recorded, is not repeated, and resumes bit-exactly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.records import RunFolder

SLOW = (pytest.mark.slow, pytest.mark.ci)


def weights(folder: RunFolder) -> dict[str, np.ndarray]:
    return load_file(folder.model / "model.safetensors")


def assert_same_weights(a: RunFolder, b: RunFolder) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_run_writes_documented_record_and_files(config: TrainConfig, shared_runs: Path) -> None:
    folder = run(config, shared_runs, shared_runs / "cache")
    record = folder.read_record()
    assert record["results"]["home"]["role"] == "source"
    assert record["results"]["away"]["test"]["num_classes"] == 11
    assert [row["step"] for row in folder.read_history()] == [2, 4, 6]
    assert record["selection"]["rule"] == "source_val"
    assert record["selection"]["sees"] == "no target"
    predictions = pq.read_table(folder.predictions)
    assert set(predictions["domain"].to_pylist()) == {"home", "away"}
    assert len(pq.read_table(folder.features)) == len(predictions)
    assert not folder.checkpoint.exists()


def test_run_learns_to_classify_its_source(config: TrainConfig, tmp_path: Path) -> None:
    longer = config.replace(
        steps=150, eval_steps=50, gradient_accumulation_steps=1, batch_size=22, ema=0.0
    )
    record = run(longer, tmp_path / "runs", tmp_path / "cache").read_record()
    assert record["results"]["home"]["test"]["macro_f1"] > 0.6


def test_finished_run_is_not_repeated(config: TrainConfig, shared_runs: Path) -> None:
    first = run(config, shared_runs, shared_runs / "cache")
    written = first.record.stat().st_mtime_ns

    def no_step(row: Any) -> None:
        pytest.fail(f"it trains again: {row}")

    again = run(config, shared_runs, shared_runs / "cache", on_progress=no_step)
    assert again == first and again.record.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("step", "inputs"),
    [
        (1, "images"),
        (4, "images"),
        (3, "features"),
        pytest.param(3, "images", marks=SLOW),
        pytest.param(5, "images", marks=SLOW),
        *(pytest.param(step, "features", marks=SLOW) for step in (1, 4, 5)),
    ],
)
def test_interrupted_run_resumes_to_same_weights(
    config: TrainConfig,
    tmp_path: Path,
    shared_runs: Path,
    step: int,
    inputs: Any,
    interrupt: Callable[..., None],
) -> None:
    config = config.replace(inputs=inputs)
    whole = run(config, shared_runs, shared_runs / "cache")
    interrupt(step, config, tmp_path / "halves", tmp_path / "cache")
    halves = run(config, tmp_path / "halves", tmp_path / "cache")
    assert_same_weights(whole, halves)
    assert [row["loss"] for row in whole.read_history()] == [
        row["loss"] for row in halves.read_history()
    ]


def test_patience_stops_run_without_improvement(config: TrainConfig, tmp_path: Path) -> None:
    stuck = config.replace(learning_rate=0.0, patience=1, steps=100)
    record = run(stuck, tmp_path / "runs", tmp_path / "cache").read_record()
    assert record["cost"]["steps"] == 4
    assert record["selection"]["step"] == 2


def test_training_on_features_moves_only_the_head(config: TrainConfig, tmp_path: Path) -> None:
    features = config.replace(inputs="features", ema=0.0)
    trained = weights(run(features, tmp_path / "runs", tmp_path / "cache"))
    before = load_file(Path(config.model.name) / "model.safetensors")
    moved = {name for name in before if not np.array_equal(before[name], trained[name])}
    assert moved == {"classifier.weight", "classifier.bias"}


def test_frozen_training_matches_training_on_features(config: TrainConfig, tmp_path: Path) -> None:
    """Both use one loop and one method file; only the origin of the features differs."""
    from hf_wbc.data.loader import NO_CHANGE

    plain = config.replace(trainable="frozen", augmentation=NO_CHANGE, ema=0.0, bottleneck=0)
    slow = weights(run(plain, tmp_path / "runs", tmp_path / "cache"))
    quick = weights(run(plain.replace(inputs="features"), tmp_path / "runs", tmp_path / "cache"))
    for name in slow:
        np.testing.assert_allclose(slow[name], quick[name], atol=1e-4, err_msg=name)


def test_domain_cannot_be_both_source_and_target(config: TrainConfig, tmp_path: Path) -> None:
    twice = config.replace(target=config.data.sources)
    with pytest.raises(ValueError, match="both 'home'"):
        run(twice, tmp_path / "runs", tmp_path / "cache")


def test_unlabeled_source_is_refused(config: TrainConfig, tmp_path: Path, make_domain: Any) -> None:
    unlabeled = str(make_domain(tmp_path / "unlabeled", name="unlabeled", labeled=False))
    with pytest.raises(ValueError, match="sources need labels"):
        run(config.replace(sources=(unlabeled,)), tmp_path / "runs", tmp_path / "cache")


def test_unlabeled_target_is_predicted_but_not_scored(
    config: TrainConfig, tmp_path: Path, make_domain: Any
) -> None:
    unlabeled = str(make_domain(tmp_path / "unlabeled", name="unlabeled", labeled=False))
    folder = run(config.replace(target=(unlabeled,)), tmp_path / "runs", tmp_path / "cache")
    assert folder.read_record()["results"]["unlabeled"]["test"] is None
    assert "unlabeled" in pq.read_table(folder.predictions)["domain"].to_pylist()


def test_same_data_elsewhere_is_same_run(
    config: TrainConfig, tmp_path: Path, shared_runs: Path
) -> None:
    import shutil

    moved = shutil.copytree(config.data.sources[0], tmp_path / "moved")
    first = run(config, shared_runs, shared_runs / "cache")
    again = run(config.replace(sources=(str(moved),)), shared_runs, shared_runs / "cache")
    assert again.path == first.path


@pytest.mark.parametrize("method", ["dann", pytest.param("shot", marks=SLOW)])
def test_two_targets_are_adapted_to_and_each_scored(
    config: TrainConfig, make_domain: Callable[..., Path], tmp_path: Path, method: str
) -> None:
    third = str(make_domain(tmp_path / "third", name="third", seed=3, labeled=False))
    both = config.replace(
        method=method,
        target=(*config.data.target, third),
        inputs="features",
        bottleneck=8,
        selection="im",
    )
    record = run(both, tmp_path / "runs", tmp_path / "cache").read_record()
    assert [domain["name"] for domain in record["target"]] == ["away", "third"]
    assert record["results"]["away"]["role"] == record["results"]["third"]["role"] == "target"
    assert record["results"]["away"]["test"]["num_classes"] == 11
    assert set(record["label_shift"]) == {"away", "third"}
