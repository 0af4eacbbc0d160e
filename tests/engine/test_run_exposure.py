"""A run that starts from another run's model inherits its data exposure, including targets."""

from pathlib import Path

from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.inference.evaluate import evaluate_model


def test_run_inherits_exposure_of_its_base_model(config: TrainConfig, tmp_path: Path) -> None:
    first = run(config, tmp_path / "runs", tmp_path / "cache")
    again = config.replace(model=str(first.model), target=(), seed=1)
    second = run(again, tmp_path / "runs", tmp_path / "cache")
    assert first.read_record()["model"]["exposed_to"] == []
    found = second.read_record()["model"]
    assert found["exposed_to"] == ["home", "away"]
    assert found["exposure"] == (
        "images of home with labels and images of away without labels; before that: unknown"
    )
    evaluated = evaluate_model(str(second.model), config.data.target[0], tmp_path / "out", ["test"])
    assert evaluated.read_record()["model"]["exposed_to"] == ["home", "away"]


def test_oracle_selection_counts_as_exposure_to_labels(config: TrainConfig, tmp_path: Path) -> None:
    chosen = config.replace(selection="oracle", oracle=True)
    first = run(chosen, tmp_path / "runs", tmp_path / "cache")
    second = run(config.replace(model=str(first.model), steps=2), tmp_path / "runs", tmp_path)
    exposure = second.read_record()["model"]["exposure"]
    assert exposure == "images of home, away with labels; before that: unknown"
