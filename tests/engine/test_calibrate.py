"""The saved model is calibrated exactly once, and states how reliable it is."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hf_wbc.config import TrainConfig
from hf_wbc.engine.calibrate import fit_run_abstention
from hf_wbc.engine.run import run
from hf_wbc.evaluation.calibration import calibrate
from hf_wbc.evaluation.label_shift import correct_priors
from hf_wbc.inference.evaluate import evaluate_model
from hf_wbc.models import load_trained
from hf_wbc.records import RunFolder


@pytest.fixture
def short(config: TrainConfig) -> TrainConfig:
    """A head on embedded features, so overconfident that it has to be calibrated."""
    return config.replace(
        inputs="features",
        steps=60,
        eval_steps=30,
        batch_size=22,
        learning_rate=0.1,
        ema=0.0,
        gradient_accumulation_steps=1,
    )


def scored(folder: RunFolder, domain: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return recorded logits (N, 11) and labels (N,)."""
    rows = pq.read_table(folder.predictions).to_pylist()
    mine = [row for row in rows if row["domain"] == domain and row["split"] == split]
    return np.array([row["logits"] for row in mine]), np.array([row["label"] for row in mine])


def test_saved_model_needs_no_further_temperature(short: TrainConfig, shared_runs: Path) -> None:
    folder = run(short, shared_runs, shared_runs / "cache")
    found = folder.read_record()["calibration"]
    assert abs(np.log(found["temperature"])) > 0.1, "or the test shows nothing"
    again = calibrate(*scored(folder, "home", "validation"), biased=False)
    assert again.temperature == pytest.approx(1, rel=1e-3)
    domain = found["domains"]["home"]["validation"]
    assert domain["nll"]["after"] < domain["nll"]["before"]
    json.dumps(found, allow_nan=False)


def test_temperature_changes_no_prediction_or_score(short: TrainConfig, shared_runs: Path) -> None:
    """The last evaluation scored the uncalibrated logits."""
    last = short.replace(selection="last")
    record = run(last, shared_runs, shared_runs / "cache").read_record()
    before = record["history"][-1]["source_val"]["home"]["macro_f1"]
    assert record["results"]["home"]["validation"]["macro_f1"] == before


def test_prior_corrected_model_is_calibrated_once(short: TrainConfig, shared_runs: Path) -> None:
    """Temperature, biases, and priors together match bias-corrected temperature scaling."""
    cache = shared_runs / "cache"
    plain = run(short, shared_runs, cache)
    corrected = run(short.replace(correct_priors="em"), shared_runs, cache)
    temperature = plain.read_record()["calibration"]["temperature"]
    assert corrected.read_record()["calibration"]["temperature"] == temperature
    logits, labels = scored(plain, "home", "validation")
    raw = calibrate(logits * temperature, labels)
    away = scored(plain, "away", "test")[0] * temperature
    final = scored(corrected, "away", "test")[0]
    shift = final - correct_priors(away, raw, np.full(11, 1 / 11))
    log_priors = shift - np.log(np.exp(shift).sum(1, keepdims=True))
    assert np.ptp(log_priors, axis=0) == pytest.approx(np.zeros(11), abs=1e-3)
    note = corrected.read_record()["calibration"]["note"]
    assert "corrected for the priors of away" in note


def test_saved_model_carries_calibration_of_its_record(
    short: TrainConfig, shared_runs: Path
) -> None:
    folder = run(short, shared_runs, shared_runs / "cache")
    record, loaded = folder.read_record()["calibration"], load_trained(str(folder.model))
    found = fit_run_abstention(loaded)
    assert found is not None and found.temperature == record["temperature"]
    assert set(found.sets) == {"marginal", "class", "label_shift/away"}
    logits, labels = scored(folder, "away", "test")
    covered = found.sets["marginal"].sets(logits)[np.arange(len(labels)), labels]
    conformal = record["domains"]["away"]["test"]["conformal"]
    assert conformal["marginal"]["coverage"] == pytest.approx(covered.mean())
    assert not hasattr(loaded.classifier.model.config, "hf_wbc_abstention"), "not to be saved on"


def test_evaluation_matches_calibration_of_run(short: TrainConfig, tmp_path: Path) -> None:
    folder = run(short.replace(inputs="images", steps=4), tmp_path / "runs", tmp_path / "cache")
    again = evaluate_model(
        str(folder.model), short.data.target[0], tmp_path, ["test"]
    ).read_record()
    mine = folder.read_record()["calibration"]["domains"]["away"]["test"]
    assert again["calibration"]["rejected"] == mine["rejected"]
    assert again["calibration"]["ece"]["after"] == pytest.approx(mine["ece"]["after"], abs=1e-4)
    assert again["calibration"]["conformal"] == mine["conformal"]


def test_older_model_has_no_abstention(tiny_model: str) -> None:
    from hf_wbc.models import load_classifier

    assert fit_run_abstention(load_classifier(tiny_model)) is None


@pytest.mark.slow
@pytest.mark.ci
def test_phase_that_degrades_source_is_noted(short: TrainConfig, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    wild = short.replace(method="shot", adapt_steps=40, adapt_learning_rate=0.1, bottleneck=8)
    note = run(wild, tmp_path / "runs", cache).read_record()["calibration"]["note"]
    assert "degraded the model on its sources" in note
    still = wild.replace(method="source_only", adapt_steps=None, adapt_learning_rate=None)
    note = run(still, tmp_path / "runs", cache).read_record()["calibration"]["note"]
    assert "on its sources" not in note
