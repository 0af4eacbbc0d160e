"""Whatever a damaged run folder contains, the others are compared and the damage is reported."""

import copy
import json
import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_wbc.comparison.collect import collect
from hf_wbc.comparison.compare import compare
from hf_wbc.comparison.export import write_comparison
from hf_wbc.record_schema import check_training_record
from hf_wbc.records import RunFolder

MakeRun = Callable[..., Path]
VALUES = (None, "x", [1], -1, {}, [], True, 1e400, float("nan"), [[[1]]], {"x": {"x": 1}}, 10**30)
DEEP = "[" * 100_000


@pytest.fixture
def root(tmp_path: Path, make_run: MakeRun) -> Path:
    """Two methods, of which one run will be damaged."""
    for method in ("source_only", "coral"):
        make_run(tmp_path / "runs", method)
    return tmp_path / "runs"


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a record, with one element of each list."""
    yield place
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*place, key))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*place, 0))


def changed(record: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    record = copy.deepcopy(record)
    parent: Any = record
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    return record


def compared(root: Path, out: Path) -> list[str]:
    """Compare everything; return what is wrong."""
    found = collect([root])
    assert found.runs
    comparison = compare(found, num_resamples=20)
    write_comparison(out, comparison)
    return [problem.what for problem in comparison.problems]


def test_training_records_pass_the_shape_check(root: Path) -> None:
    for path in root.iterdir():
        check_training_record(RunFolder(path).read_record())


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_part_of_wrong_type_is_reported_and_others_are_compared(
    root: Path, tmp_path: Path, value: Any
) -> None:
    victim = RunFolder(sorted(root.iterdir())[0])
    record = json.loads(victim.record.read_text())
    for name in sorted(set(record) - {"version", "kind", "run"}):
        if type(record[name]) is type(value) or name == "across_processes":
            continue
        victim.record.write_text(json.dumps({**record, name: value}))
        problems = collect([root]).problems
        if value is None and name == "label_shift":
            continue
        assert len(problems) == 1 and name in problems[0].what, (name, problems)
    assert len(compared(root, tmp_path / "out")) == 1


def test_number_beyond_floats_is_reported(root: Path) -> None:
    victim = RunFolder(sorted(root.iterdir())[0])
    record = json.loads(victim.record.read_text())
    for cost in ({"elapsed_s": 10**400}, {"peak_memory_bytes": 10**400}):
        victim.record.write_text(json.dumps({**record, "cost": {**record["cost"], **cost}}))
        (problem,) = collect([root]).problems
        assert f"cost.{next(iter(cost))}" in problem.what


@pytest.mark.parametrize(
    ("num_values", "num_tables"),
    [(1, 5), pytest.param(2, 25, marks=(pytest.mark.slow, pytest.mark.ci))],
)
@pytest.mark.slow
@pytest.mark.ci
def test_arbitrary_values_never_abort_a_comparison(
    root: Path, tmp_path: Path, num_values: int, num_tables: int
) -> None:
    """Every place of a record takes some value of another kind; drawn from a seed."""
    victim = RunFolder(sorted(root.iterdir())[0])
    record = json.loads(victim.record.read_text())
    rng = random.Random(0)
    num_compared = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for place in [place for place in places(record) if place]:
            for value in rng.sample(VALUES, num_values):
                victim.record.write_text(json.dumps(changed(record, place, value)))
                found = collect([root])
                assert found.runs, (place, value)
                if len(found.runs) == 2 and num_compared < num_tables:
                    num_compared += 1
                    compared(root, tmp_path / "out")
    assert num_compared == num_tables


@pytest.mark.parametrize("name", ["record.json", "config.json"])
@pytest.mark.parametrize("text", [DEEP, "{" * 1000, "\x00", "", "null", '{"a": 1', "1" * 10_000])
def test_malformed_json_file_is_reported(root: Path, tmp_path: Path, name: str, text: str) -> None:
    victim = sorted(root.iterdir())[0]
    (victim / name).write_text(text)
    (problem,) = compared(root, tmp_path / "out")
    assert "damaged" in problem and name in problem


def test_recursive_links_are_skipped(root: Path, tmp_path: Path) -> None:
    (root / "again").symlink_to(".")
    (root / "loop").symlink_to("loop")
    (root / "deeper").mkdir()
    (root / "deeper" / "up").symlink_to("..")
    assert len(collect([root]).runs) == 2 and compared(root, tmp_path / "out") == []


@pytest.mark.parametrize("name", ["record.json", "predictions.parquet", "features.parquet"])
def test_folder_in_place_of_a_file_is_reported(root: Path, tmp_path: Path, name: str) -> None:
    victim = sorted(root.iterdir())[0]
    (victim / name).unlink()
    (victim / name).mkdir()
    assert any(name in problem for problem in compared(root, tmp_path / "out"))


def _column(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, pa.array(values))


DAMAGES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "texts for labels": lambda table: _column(table, "label", ["x"] * len(table)),
    "a class that does not exist": lambda table: _column(table, "predicted", [99] * len(table)),
    "a negative class": lambda table: _column(table, "label", [-7] * len(table)),
    "null labels": lambda table: _column(table, "label", pa.nulls(len(table), pa.int64())),
    "numbers for domains": lambda table: _column(table, "domain", np.arange(len(table))),
    "no column": lambda table: table.drop_columns(["predicted"]),
    "no rows": lambda table: table[:0],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_predictions_of_wrong_shape_are_reported(root: Path, tmp_path: Path, damage: str) -> None:
    path = RunFolder(sorted(root.iterdir())[0]).predictions
    pq.write_table(DAMAGES[damage](pq.read_table(path)), path)
    (problem,) = compared(root, tmp_path / "out")
    assert "predictions.parquet" in problem and "excluded from significance tests" in problem


@pytest.mark.slow
@pytest.mark.ci
def test_report_omits_damaged_parts(root: Path, tmp_path: Path) -> None:
    from hf_wbc.comparison.report import render

    path = RunFolder(sorted(root.iterdir())[0])
    pq.write_table(_column(pq.read_table(path.predictions), "label", ["x"] * 180), path.predictions)
    shutil.copy(path.predictions, path.features)
    found = collect([root])
    page = render(found, tmp_path / "report.html", compare(found, num_resamples=20))
    assert "column label does not hold class ids" in page.read_text()
