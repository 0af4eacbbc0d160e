"""A run folder is complete, or its damage is reported."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hf_wbc.records import RunFolder, atomic_replace, digest


def started(root: Path, identity: dict[str, Any]) -> RunFolder:
    run = RunFolder.find(root, identity)
    with run.writing({}, identity):
        return run


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})


def test_an_error_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_replace(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    run = started(tmp_path, {"seed": 0})
    run.config.write_text('{"config": {}, "identity": {"seed": 1}}')
    with pytest.raises(ValueError, match=rf"another run .* delete {run.path}"):
        RunFolder.find(tmp_path, {"seed": 0})


def test_a_run_that_is_only_looked_for_leaves_nothing(tmp_path: Path) -> None:
    run = RunFolder.find(tmp_path / "runs", {"seed": 0})
    assert not run.finished and not (tmp_path / "runs").exists()


def test_a_folder_is_written_by_one_at_a_time(tmp_path: Path) -> None:
    run = RunFolder.find(tmp_path, {})
    message = rf"another process is writing {run.path}"
    with run.writing({}, {}), pytest.raises(ValueError, match=message), run.writing({}, {}):
        pass
    with run.writing({}, {}):
        pass


def test_what_a_crash_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    run = started(tmp_path, {})
    (run.path / ".model-x1").mkdir()
    (run.path / ".record.json.7.partial").write_text("{")
    with run.writing({}, {}):
        assert [path.name for path in run.path.iterdir()] == ["config.json"]


def test_a_history_line_cut_short_by_a_crash_is_left_out(tmp_path: Path) -> None:
    run = started(tmp_path, {})
    run.append_history({"step": 1})
    run.append_history({"step": 2})
    with run.history.open("a") as file:
        file.write('{"step": 3, "los')
    assert [row["step"] for row in run.read_history()] == [1, 2]
    assert run.rewind_history(1) == [{"step": 1}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "not a JSON object"),
        ('{"version": 99}', "has version 99"),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, text: str, message: str) -> None:
    run = started(tmp_path, {})
    run.record.write_text(text)
    with pytest.raises(ValueError, match=message):
        run.read_record()


def test_a_missing_record_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"record\.json is missing"):
        RunFolder(tmp_path).read_record()


def test_an_interrupted_swap_leaves_the_old_folder_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "report"
    old.mkdir()
    for name in ("a", "b"):
        (old / name).write_text(name)

    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), atomic_replace(old) as new:
        new.mkdir()
        monkeypatch.setattr(Path, "replace", interrupted)
    assert {path.name: path.read_text() for path in old.iterdir()} == {"a": "a", "b": "b"}
    assert list(tmp_path.iterdir()) == [old]


def test_what_a_killed_process_left_is_cleared_and_what_a_living_one_writes_is_not(
    tmp_path: Path,
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getppid()):
        (tmp_path / f".report.{pid}.partial").mkdir()
    with atomic_replace(tmp_path / "report") as new:
        new.mkdir()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"report", f".report.{os.getppid()}.partial"}
