"""A second phase adapts on target images alone, is selected among its own steps, and resumes."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.records import RunFolder

SLOW = (pytest.mark.slow, pytest.mark.ci)


@pytest.fixture
def short(config: TrainConfig) -> TrainConfig:
    """Configure 4 steps on embedded features, then 4 on the target alone."""
    return config.replace(
        inputs="features", steps=4, adapt_steps=4, bottleneck=8, batch_size=22, ema=0.0
    )


def weights(folder: RunFolder) -> dict[str, np.ndarray]:
    return load_file(folder.model / "model.safetensors")


def test_second_phase_starts_from_best_weights_of_first(short: TrainConfig, tmp_path: Path) -> None:
    """At learning rate 0 it changes nothing, and the run equals that of the first phase."""
    still = short.replace(method="shot", adapt_learning_rate=0.0, weight_decay=0.0)
    two = run(still, tmp_path, tmp_path / "cache")
    one = run(replace(still, method="source_only", adapt_steps=None), tmp_path, tmp_path / "cache")
    assert [row["phase"] for row in two.read_history()] == ["fit", "fit", "adapt", "adapt"]
    assert two.read_history()[:2] == one.read_history()
    assert two.read_record()["selection"]["step"] > short.optim.steps, (
        "only the last phase competes"
    )
    assert two.read_record()["cost"]["steps"] == 8


@pytest.mark.parametrize(
    ("method", "step"),
    [
        ("shot", 7),
        ("adabn", 4),
        *(pytest.param("shot", step, marks=SLOW) for step in (3, 4, 5)),
        *(pytest.param("adabn", step, marks=SLOW) for step in (3, 5, 7)),
        *(pytest.param("tent", step, marks=SLOW) for step in (3, 4, 5, 7)),
    ],
)
@pytest.mark.slow
@pytest.mark.ci
def test_interrupted_second_phase_resumes_to_same_weights(
    short: TrainConfig,
    tmp_path: Path,
    shared_runs: Path,
    method: str,
    step: int,
    interrupt: Callable[..., None],
) -> None:
    config = short.replace(method=method)
    whole = run(config, shared_runs, shared_runs / "cache")
    interrupt(step, config, tmp_path / "halves", tmp_path / "cache")
    halves = run(config, tmp_path / "halves", tmp_path / "cache")
    for name, values in weights(whole).items():
        np.testing.assert_array_equal(values, weights(halves)[name], err_msg=name)
    assert whole.read_history() == halves.read_history()


def test_adabn_moves_no_weight_but_saves_another_model(short: TrainConfig, tmp_path: Path) -> None:
    """The head of the plain model absorbs the new statistics."""
    cache = tmp_path / "cache"
    adapted = weights(run(short.replace(method="adabn"), tmp_path, cache))
    plain = weights(run(short.replace(method="source_only", adapt_steps=None), tmp_path, cache))
    moved = {name for name in plain if not np.array_equal(plain[name], adapted[name])}
    assert moved == {"classifier.weight", "classifier.bias"}


def test_phase_that_ends_early_is_followed_by_next(short: TrainConfig, tmp_path: Path) -> None:
    stuck = short.replace(
        method="shot", learning_rate=0.0, patience=1, steps=100, adapt_learning_rate=1e-3
    )
    record = run(stuck, tmp_path, tmp_path / "cache").read_record()
    steps = [row["step"] for row in record["history"]]
    assert steps[:3] == [2, 4, 102]
    assert (
        record["cost"]["steps"] == 4 + sum(row["phase"] == "adapt" for row in record["history"]) * 2
    )


def test_bottleneck_is_folded_into_saved_model(short: TrainConfig, tmp_path: Path) -> None:
    """The plain model's head on the backbone features reproduces the recorded predictions."""
    import pyarrow.parquet as pq

    from hf_wbc.data.dataset import load_split
    from hf_wbc.engine.accelerator import make_accelerator
    from hf_wbc.engine.features import embed
    from hf_wbc.models import load_classifier, load_trained

    folder = run(short.replace(method="coral", adapt_steps=None), tmp_path, tmp_path / "cache")
    trained = load_trained(str(folder.model)).classifier
    backbone = load_classifier(short.model.name, seed=short.seed)
    domain = load_split(short.data.target[0], "test")
    features = embed(backbone, domain, tmp_path / "cache", make_accelerator()).chunks[0]
    head = trained.head
    logits = features @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    rows = pq.read_table(folder.predictions).to_pylist()
    mine = [row["logits"] for row in rows if row["domain"] == "away"]
    np.testing.assert_allclose(logits, mine, atol=1e-5)
    narrow = pq.read_table(folder.features)["features"].to_pylist()
    assert {len(row) for row in narrow} == {8}, "what the methods aligned"


def test_every_record_is_valid_json(short: TrainConfig, tmp_path: Path) -> None:
    folder = run(short.replace(method="eata", oracle=True), tmp_path, tmp_path / "cache")
    json.dumps(folder.read_record(), allow_nan=False)
