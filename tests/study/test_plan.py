"""A study's work is known before any training starts."""

from dataclasses import replace
from pathlib import Path

import pytest

from hf_wbc.config import TrainConfig
from hf_wbc.engine.run import run
from hf_wbc.study.plan import (
    CostEstimator,
    PlannedRun,
    describe_estimate,
    plan,
    read_records,
    total_cost,
)
from hf_wbc.study.task import keep_failure, make_task, parse_launch, pending_tasks, record_refusals


def planned(configs: list[TrainConfig], root: Path) -> list[PlannedRun]:
    return plan(configs, root, root / "features")


@pytest.mark.parametrize(
    ("method", "inputs"), [("ema", "images"), ("shot", "features"), ("source_only", "features")]
)
def test_planned_folder_matches_actual_run_folder(
    short: TrainConfig, tmp_path: Path, method: str, inputs: str
) -> None:
    config = short.replace(method=method, inputs=inputs, steps=2)  # type: ignore[arg-type]
    (before,) = planned([config], tmp_path)
    made = run(config, tmp_path, tmp_path / "features")
    (after,) = planned([config], tmp_path)
    assert (before.state, after.state) == ("new", "finished")
    assert before.folder.path == made.path == after.folder.path
    assert bool(before.num_to_embed) == (inputs == "features") and not after.num_to_embed


def test_equivalent_configurations_are_one_run(short: TrainConfig, tmp_path: Path) -> None:
    explicit = short.replace(image_size=28, bottleneck=0)
    assert len(planned([short, explicit], tmp_path)) == 1


def test_fresh_weights_of_two_seeds_are_two_runs(short: TrainConfig, tmp_path: Path) -> None:
    fresh = short.replace(from_scratch=True)
    other = replace(fresh, seed=1)
    found = planned([fresh, other], tmp_path)
    assert len({run.identity["model"] for run in found}) == 2
    assert found[1].folder.path == planned([other], tmp_path)[0].folder.path


def test_invalid_configuration_is_refused_on_its_own(short: TrainConfig, tmp_path: Path) -> None:
    found = planned(
        [short.replace(method="corall"), short.replace(sources=("nowhere",)), short], tmp_path
    )
    assert [run.state for run in found] == ["refused", "refused", "new"]
    assert "did you mean 'coral'" in found[0].failure and "nowhere" in found[1].failure
    assert not list(tmp_path.iterdir()), "planning writes nothing"
    record_refusals(found, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        run.folder.path.name for run in found if run.state == "refused"
    }
    assert pending_tasks(found, retry=True) == found[2:]


def test_failed_runs_wait_for_retry_and_killed_ones_do_not(
    short: TrainConfig, tmp_path: Path
) -> None:
    runs = planned([short, short.replace(seed=1)], tmp_path)
    for each, killed in zip(runs, (False, True), strict=True):
        keep_failure(make_task(each, tmp_path), "because", killed=killed)
    again = planned([short, short.replace(seed=1)], tmp_path)
    assert [run.state for run in again] == ["failed", "unfinished"]
    assert again[0].failure == "because"
    assert pending_tasks(again, retry=False) == again[1:]
    assert pending_tasks(again, retry=True) == again


def test_estimate_comes_from_most_similar_run(short: TrainConfig, tmp_path: Path) -> None:
    run(short, tmp_path, tmp_path / "features")
    (record,) = read_records(tmp_path)
    record["cost"] |= {"elapsed_s": 60.0, "steps": 6}
    slower = {**record, "config": {**record["config"], "method": "coral"}}
    slower["cost"] = {**record["cost"], "elapsed_s": 600.0}
    measured = CostEstimator([record, slower])
    same, twice, other, unlike = planned(
        [
            short.replace(seed=5),
            short.replace(steps=12),
            short.replace(method="dann"),
            short.replace(inputs="features"),
        ],
        tmp_path,
    )
    assert measured.estimate(same).seconds == pytest.approx(60)
    assert measured.estimate(twice).seconds == pytest.approx(120)
    assert measured.estimate(same).likeness == "method"
    assert measured.estimate(other).likeness == "network"
    assert 60 < (measured.estimate(other).seconds or 0) < 600
    assert measured.estimate(unlike).seconds is None
    estimates = [measured.estimate(each) for each in (same, twice, unlike)]
    assert total_cost(estimates, 1) == pytest.approx(180)
    assert total_cost(estimates, 2) == pytest.approx(120)
    said = "\n".join(describe_estimate([same, twice, unlike], estimates, 2))
    assert "about 2 min for 2 runs in 2 workers" in said
    assert "unknown: 1 runs" in said
    assert "176 images" in said, "of the run on features, none of which is there"


def test_parse_launch_returns_number_of_processes() -> None:
    assert parse_launch(None) == (None, 1)
    assert parse_launch(["mixed_precision=no", "num-processes=2"]) == (
        ("--mixed_precision=no", "--num-processes=2"),
        2,
    )
    with pytest.raises(ValueError, match="num_processes=NUMBER"):
        parse_launch(["multi_gpu"])
