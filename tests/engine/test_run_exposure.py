"""A run that starts from another run's model inherits its data exposure, including targets."""

from pathlib import Path

from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.inference.evaluate import evaluate_model


def test_a_run_from_a_runs_model_is_exposed_to_its_sources_and_targets(
    config: TrainConfig, tmp_path: Path
) -> None:
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


def test_a_target_whose_labels_chose_the_weights_was_seen_with_labels(
    config: TrainConfig, tmp_path: Path
) -> None:
    chosen = config.replace(selection="oracle", oracle=True)
    first = run(chosen, tmp_path / "runs", tmp_path / "cache")
    second = run(config.replace(model=str(first.model), steps=2), tmp_path / "runs", tmp_path)
    exposure = second.read_record()["model"]["exposure"]
    assert exposure == "images of home, away with labels; before that: unknown"
