"""A run folder is complete, or its damage is reported."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hf_wbc.record_versions import RECORD_VERSION
from hf_wbc.records import (
    ABANDONED_S,
    RunFolder,
    atomic_replace,
    digest,
    remove_abandoned,
    temporary_sibling,
    write_json,
)


def started(root: Path, identity: dict[str, Any]) -> RunFolder:
    run = RunFolder.find(root, identity)
    with run.writing({}, identity):
        return run


def test_digest_is_independent_of_key_order() -> None:
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})


def test_error_while_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_replace(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    run = started(tmp_path, {"seed": 0})
    run.config.write_text('{"config": {}, "identity": {"seed": 1}}')
    with pytest.raises(ValueError, match=rf"another run .* delete {run.path}"):
        RunFolder.find(tmp_path, {"seed": 0})


def test_find_creates_no_files(tmp_path: Path) -> None:
    run = RunFolder.find(tmp_path / "runs", {"seed": 0})
    assert not run.finished and not (tmp_path / "runs").exists()


def test_only_one_process_writes_a_run_folder(tmp_path: Path) -> None:
    run = RunFolder.find(tmp_path, {})
    message = rf"another process is writing {run.path}"
    with run.writing({}, {}), pytest.raises(ValueError, match=message), run.writing({}, {}):
        pass
    with run.writing({}, {}):
        pass


def test_partial_files_after_a_crash_are_removed(tmp_path: Path) -> None:
    run = started(tmp_path, {})
    (run.path / ".model-x1").mkdir()
    temporary_sibling(run.record).write_text("{")
    with run.writing({}, {}):
        assert {path.name for path in run.path.iterdir()} == {".lock", "config.json"}
    assert [path.name for path in run.path.iterdir()] == ["config.json"]


def test_truncated_history_line_is_ignored(tmp_path: Path) -> None:
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
        ('{"version": 99}', "has version 99, but this hf_wbc reads 1 to 2; update hf_wbc"),
        ('{"version": "x"}', "has version 'x', .*; use the hf_wbc that wrote it"),
        ("{}", "has version None"),
    ],
)
def test_damaged_record_is_reported(tmp_path: Path, text: str, message: str) -> None:
    run = started(tmp_path, {})
    run.record.write_text(text)
    with pytest.raises(ValueError, match=message):
        run.read_record()


def test_version_1_record_is_upgraded(tmp_path: Path) -> None:
    run = started(tmp_path, {})
    shift = {"em": {"misfit": 0.2, "misfit_limit": 0.1}}
    old = {
        "version": 1,
        "selection": {"rule": "im", "sees": "unlabelled target"},
        "results": {"unlabelled": {"test": {"num_unlabelled": 3}}, "misfit": {"test": None}},
        "history": [{"step": 1, "unlabelled": {"misfit": {"im": 0.5}}}],
        "label_shift": shift,
    }
    write_json(run.record, old)
    assert run.read_record() == {
        "version": RECORD_VERSION,
        "selection": {"rule": "im", "sees": "unlabeled target"},
        "results": {"unlabelled": {"test": {"num_unlabeled": 3}}, "misfit": {"test": None}},
        "history": [{"step": 1, "unlabeled": {"misfit": {"im": 0.5}}}],
        "label_shift": {"em": {"label_shift_ks": 0.2, "label_shift_ks_limit": 0.1}},
    }, "names of domains are kept"
    assert json.loads(run.record.read_text()) == old, "the file is not changed"


def test_version_2_record_is_unchanged(tmp_path: Path) -> None:
    run = started(tmp_path, {})
    run.write_record({"misfit": 1})
    assert run.read_record() == {"version": 2, "misfit": 1}


def test_old_history_lines_are_upgraded(tmp_path: Path) -> None:
    run = started(tmp_path, {})
    run.append_history({"step": 1, "unlabelled": {"away": {"im": 0.5}}})
    assert run.rewind_history(1) == [{"step": 1, "unlabeled": {"away": {"im": 0.5}}}]


def test_missing_record_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"record\.json is missing"):
        RunFolder(tmp_path).read_record()


def test_interrupted_swap_keeps_old_folder_complete(
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


WRITE = """
import sys, time
from pathlib import Path
from hf_wbc.records import atomic_replace
who, out = sys.argv[1], Path(sys.argv[2])
with atomic_replace(out) as temporary, temporary.open("w") as file:
    file.write(f"{who} begins\\n")
    file.flush()
    print(temporary.name, flush=True)
    sys.stdin.readline()
    file.write(f"{who} ends\\n")
"""
CONTAINER = ("unshare", "--user", "--map-root-user", "--pid", "--fork")
"""Starts a process with the process id 1."""


def test_containers_with_same_process_id_write_complete_files(tmp_path: Path) -> None:
    if not shutil.which("unshare") or subprocess.run([*CONTAINER, "true"]).returncode:
        pytest.skip("this machine cannot start a process id namespace")
    out, writers = tmp_path / "cells.csv", []
    for who in "AB":  # B begins while A writes
        writer = subprocess.Popen(
            [*CONTAINER, sys.executable, "-c", WRITE, who, str(out)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout and writer.stdout.readline().startswith(".cells.csv.")
        writers.append(writer)
    for who, writer in zip("AB", writers, strict=True):
        writer.communicate("go\n")
        assert writer.returncode == 0
        assert out.read_text() == f"{who} begins\n{who} ends\n"
    assert list(tmp_path.iterdir()) == [out]


def test_temporary_names_are_unique_per_host_and_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cells.csv"
    here = {temporary_sibling(path) for _ in range(100)}
    other = os.uname_result(("Linux", "node-7.lab", "6", "", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: other)
    there = temporary_sibling(path)
    assert len(here) == 100 and there not in here and ".node_7_lab-" in there.name


def test_only_leftovers_of_dead_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "report"
    dead = subprocess.Popen(
        [sys.executable, "-c", WRITE, "A", str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert dead.stdout and (name := dead.stdout.readline())
    dead.kill()
    dead.communicate()
    mine = temporary_sibling(out)
    with monkeypatch.context() as patched:  # the same process id, on another machine
        other = os.uname_result(("Linux", "elsewhere", "6", "", "x86_64"))
        patched.setattr(os, "uname", lambda: other)
        patched.setattr(os, "getpid", lambda: dead.pid)
        theirs, old = temporary_sibling(out), temporary_sibling(out, "old")
    for path in (mine, theirs, old):
        path.mkdir()
        (path / "file").touch()
    for path in (old / "file", old):
        os.utime(path, (0, time.time() - ABANDONED_S - 60))
    assert (tmp_path / name.decode().strip()).exists()
    with atomic_replace(out) as new:
        new.mkdir()
    assert {*tmp_path.iterdir()} == {out, mine, theirs}


def test_folder_created_concurrently_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "report"
    with atomic_replace(out) as new:
        new.mkdir()
        (new / "mine").touch()
        out.mkdir()
        (out / "theirs").touch()
    assert [path.name for path in out.iterdir()] == ["mine"] and list(tmp_path.iterdir()) == [out]


def test_full_disk_error_names_the_file(tmp_path: Path) -> None:
    """Writing to an open file fails without its name."""
    with pytest.raises(OSError, match=r"a\.json") as caught, atomic_replace(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC and not list(tmp_path.iterdir())


def test_names_as_long_as_file_systems_allow_are_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "\u7ec6\u80de" * 42 + "abc"):
        for _ in range(2):
            with atomic_replace(tmp_path / name) as temporary:
                temporary.write_text("new")
        left = temporary_sibling(tmp_path / name)
        left = left.with_name(re.sub(r"-\d+-", "-999999999-", left.name))
        left.touch()
        remove_abandoned(tmp_path / name)
    assert sorted(len(path.name) for path in tmp_path.iterdir()) == [87, 255]
