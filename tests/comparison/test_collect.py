"""Runs are found wherever they are stored, and every faulty folder is reported."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_wbc.comparison.collect import collect
from hf_wbc.record_versions import RECORD_VERSION
from hf_wbc.records import RunFolder, write_json

MakeRun = Callable[..., Path]


def edit_record(path: Path, **changes: object) -> None:
    record = json.loads(RunFolder(path).record.read_text())
    write_json(RunFolder(path).record, {**record, **changes})


def the_problem(root: Path) -> str:
    """Return the problem of the only faulty folder under a root."""
    (problem,) = collect([root]).problems
    return problem.what


def test_runs_are_found_at_any_depth_in_a_fixed_order(tmp_path: Path, make_run: MakeRun) -> None:
    a = make_run(tmp_path / "a" / "deep", "source_only")
    b = make_run(tmp_path / "b", "coral")
    found = collect([tmp_path])
    assert [run.path for run in found.runs] == [b, a] and not found.problems
    assert [run.path for run in collect([a, tmp_path / "b"]).runs] == [b, a]


def test_run_properties_come_from_its_record(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path, "coral", seed=3, model="org/net@main", exposed_to=("away",))
    (run,) = collect([tmp_path]).runs
    assert (run.method, run.network, run.seed, run.rule) == ("coral", "net", 3, "source_val")
    assert (run.sources, run.targets, run.exposed_to) == (("home",), ("away",), ("away",))
    assert run.predictions(["split"]).num_rows == 180 and run.features().num_rows == 180


def test_same_run_in_two_folders_is_counted_once(tmp_path: Path, make_run: MakeRun) -> None:
    path = make_run(tmp_path / "a")
    shutil.copytree(path, tmp_path / "b" / path.name)
    found = collect([tmp_path / "a", tmp_path / "b", tmp_path])
    assert len(found.runs) == 1 and not found.problems


def test_copy_with_different_cost_is_the_same_run(tmp_path: Path, make_run: MakeRun) -> None:
    path = make_run(tmp_path / "a")
    copy = Path(shutil.copytree(path, tmp_path / "b" / path.name))
    record = json.loads(RunFolder(copy).record.read_text())
    cost, machine = record["cost"] | {"elapsed_s": 99.0}, record["machine"] | {"device": "GPU"}
    edit_record(copy, cost=cost, machine=machine)
    found = collect([tmp_path])
    assert len(found.runs) == 1 and not found.problems


def test_copies_with_different_content_are_reported_and_one_counts(
    tmp_path: Path, make_run: MakeRun
) -> None:
    path = make_run(tmp_path / "a")
    copy = Path(shutil.copytree(path, tmp_path / "b" / path.name))
    record = json.loads(RunFolder(copy).record.read_text())
    edit_record(copy, history=record["history"][1:])
    kept = set()
    for roots in ([tmp_path / "a", tmp_path / "b"], [tmp_path / "b", tmp_path / "a"]):
        found = collect(roots)
        (run,), (problem,) = found.runs, found.problems
        assert {run.path, problem.path} == {path, copy}
        assert "duplicate" in problem.what and "differs in history" in problem.what
        kept.add((run.path, problem.what))
    assert len(kept) == 1


def test_copies_with_different_predictions_are_reported(tmp_path: Path, make_run: MakeRun) -> None:
    path = make_run(tmp_path / "a")
    copy = Path(shutil.copytree(path, tmp_path / "b" / path.name))
    other = make_run(tmp_path / "other", "coral")
    shutil.copy(RunFolder(other).predictions, RunFolder(copy).predictions)
    assert "differs in predictions.parquet" in the_problem(tmp_path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("damaged", [0, 1])
def test_intact_copy_replaces_damaged_one(tmp_path: Path, make_run: MakeRun, damaged: int) -> None:
    """The order does not matter: the intact copy replaces the damaged one."""
    path = make_run(tmp_path / "a")
    copies = [path, Path(shutil.copytree(path, tmp_path / "b" / path.name))]
    cost = json.loads(RunFolder(path).record.read_text())["cost"]
    edit_record(copies[1], cost=cost | {"elapsed_s": 99.0})
    cut(RunFolder(copies[damaged]).predictions)
    found = collect([tmp_path])
    assert [run.path for run in found.runs] == [copies[1 - damaged]]
    assert {problem.path for problem in found.problems} == {copies[damaged]}
    words = " ".join(problem.what for problem in found.problems)
    assert "damaged: predictions.parquet" in words and "differs in predictions.parquet" in words
    assert "excluded from significance tests" not in words, "the other copy is"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda run: cut(run.record), "damaged: record.json"),
        (lambda run: cut(run.config), "damaged: config.json"),
        (lambda run: run.config.unlink(), "damaged: config.json is missing"),
        (lambda run: run.record.write_text("[]"), "damaged: record.json is not a JSON object"),
        (lambda run: edit_record(run.path, version=RECORD_VERSION + 1), "of another version"),
        (lambda run: edit_record(run.path, kind="evaluation"), "of kind 'evaluation'"),
        (lambda run: edit_record(run.path, run="0" * 12), "of another run"),
        (
            lambda run: edit_record(run.path, selection={}),
            "damaged: record.json: selection.rule is missing",
        ),
        (lambda run: run.record.unlink(), "unfinished"),
    ],
)
def test_unusable_run_is_reported(
    tmp_path: Path, make_run: MakeRun, damage: Callable[[RunFolder], None], words: str
) -> None:
    path = make_run(tmp_path)
    make_run(tmp_path, "coral")
    damage(RunFolder(path))
    found = collect([tmp_path])
    assert [run.method for run in found.runs] == ["coral"]
    (problem,) = found.problems
    assert words in problem.what and problem.place == path.name
    assert str(tmp_path) not in problem.what


def test_failed_run_is_reported_with_its_error_but_no_paths(
    tmp_path: Path, make_run: MakeRun
) -> None:
    folder = RunFolder(make_run(tmp_path))
    folder.record.unlink()
    write_json(folder.failure, {"what": "ValueError: /home/me/data/x.parquet is damaged"})
    assert the_problem(tmp_path).startswith("failed: ValueError: x.parquet is damaged;")


def test_run_being_written_is_reported(tmp_path: Path, make_run: MakeRun) -> None:
    folder = RunFolder(make_run(tmp_path))
    folder.record.unlink()
    with folder.writing({}, {}):
        assert "a process is writing it;" in the_problem(tmp_path)


@pytest.mark.parametrize("name", ["predictions", "features"])
def test_truncated_table_is_reported_and_record_still_counts(
    tmp_path: Path, make_run: MakeRun, name: str
) -> None:
    cut(getattr(RunFolder(make_run(tmp_path)), name))
    found = collect([tmp_path])
    assert len(found.runs) == 1
    assert f"{name}.parquet is truncated" in found.problems[0].what
    with pytest.raises(ValueError, match=rf"damaged: {name}.parquet"):
        getattr(found.runs[0], name)()


def test_missing_features_are_not_a_problem(tmp_path: Path, make_run: MakeRun) -> None:
    RunFolder(make_run(tmp_path)).features.unlink()
    assert not collect([tmp_path]).problems


def test_model_folder_is_not_a_run(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "runs")
    write_json(tmp_path / "config.json", {"model_type": "vit"})
    assert len(collect([tmp_path]).runs) == 1


def test_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contains no run folder"):
        collect([tmp_path])
    with pytest.raises(ValueError, match="is not a folder"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="no folders given"):
        collect([])


def test_version_1_record_is_upgraded(tmp_path: Path, make_run: MakeRun) -> None:
    path = make_run(tmp_path, rule="im")
    (new,) = collect([tmp_path]).runs
    found = dict(new.record["selection"])
    sees = found["sees"].replace("unlabeled", "unlabeled")
    edit_record(path, version=1, selection={**found, "sees": sees})
    (old,) = collect([tmp_path]).runs
    assert old.record == new.record
