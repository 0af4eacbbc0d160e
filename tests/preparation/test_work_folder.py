"""The work folder: one process at a time, cleaned up after errors, and full disks reported."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hf_wbc.data.schema import PROVENANCE
from hf_wbc.preparation import work_folder
from hf_wbc.preparation.work_folder import (
    WorkFolder,
    check_disk,
    flush_to_disk,
    is_finished,
    lock_work_folder,
    report_full_disk,
)
from hf_wbc.records import write_json

PLAN = {"archive": "abc", "seed": 0, "subset": False}


def enter(out: Path) -> None:
    with lock_work_folder(out):
        pass


def fill(disk: Path) -> None:
    with report_full_disk(disk / "lab"):
        (disk / "big").write_bytes(bytes(10**6))


def test_folder_appears_atomically(tmp_path: Path) -> None:
    out = tmp_path / "build" / "lab"
    with lock_work_folder(out) as work:
        folder = work.build(PLAN)
        (folder / "out" / "README.md").write_text("whole")
        assert not out.exists()
        work.finish(folder)
    assert (out / "README.md").read_text() == "whole"
    assert [path.name for path in out.parent.iterdir()] == ["lab"]


def test_empty_folder_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    assert not is_finished(tmp_path / "lab", PLAN)
    with lock_work_folder(tmp_path / "lab") as work:
        work.finish(work.build(PLAN))
    assert (tmp_path / "lab" / "cropped").is_dir()


def test_only_one_process_builds_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from hf_wbc.preparation.work_folder import "
        "lock_work_folder\n"
        "with lock_work_folder(Path(sys.argv[1])): print('in', flush=True); sys.stdin.read()"
    )
    out = tmp_path / "lab"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(out)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"in\n"
    with (
        pytest.raises(ValueError, match=f"another process is building {out}; wait"),
        lock_work_folder(out),
    ):
        pass
    assert WorkFolder(out).root.is_dir()  # it belongs to the other process
    other.kill()
    other.wait()
    with lock_work_folder(out):
        pass


def test_user_error_leaves_nothing_and_interruption_keeps_progress(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "lab"
    with pytest.raises(ValueError, match="mistake"), lock_work_folder(out) as work:
        work.build(PLAN)
        raise ValueError("mistake")
    assert not any(tmp_path.iterdir())
    for error in (KeyboardInterrupt(), OSError("disk")):
        with pytest.raises(type(error)), lock_work_folder(out) as work:
            (work.build(PLAN) / "done" / "note").touch()
            raise error
    with pytest.raises(ValueError, match="mistake"), lock_work_folder(out) as work:
        raise ValueError("mistake")
    with lock_work_folder(out) as work:
        assert (work.build(PLAN) / "done" / "note").exists()


def test_different_plan_clears_the_unfinished_one(tmp_path: Path) -> None:
    with lock_work_folder(tmp_path / "lab") as work:
        work.scratch.mkdir()
        first = work.build(PLAN)
        second = work.build({**PLAN, "seed": 1})
        assert not first.exists() and second.is_dir() and work.scratch.is_dir()


def test_partially_written_files_are_cleared(tmp_path: Path) -> None:
    with lock_work_folder(tmp_path / "lab") as work:
        (work.build(PLAN) / "temporary" / "half").touch()
        assert not any((work.build(PLAN) / "temporary").iterdir())


def test_finished_folder_of_different_plan_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "lab"
    assert not is_finished(out, PLAN)
    out.mkdir()
    write_json(out / PROVENANCE, {"plan": PLAN})
    assert is_finished(out, PLAN)
    with pytest.raises(
        ValueError, match="built with a different archive, seed; choose another --out"
    ):
        is_finished(out, {**PLAN, "seed": 1, "archive": "abd"})


def test_unrelated_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    for path in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(ValueError, match="was not created by `hf-wbc prepare`"):
            is_finished(path, PLAN)


def test_unwritable_output_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "lab"
    with pytest.raises(ValueError, match=r"lab\.partial cannot be written.*another --out"):
        enter(out)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a 64 kB file system; skip if mounting is not possible."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if (
        sys.platform != "linux"
        or os.getuid()
        or subprocess.run(mount, capture_output=True).returncode
    ):
        pytest.skip("only root can mount a small disk")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_mount_point_is_refused_before_any_work(disk: Path) -> None:
    with pytest.raises(ValueError, match=f"{disk} is a mount point; choose a folder on it"):
        enter(disk)
    assert [path.name for path in disk.parent.iterdir()] == ["disk"]


def test_read_only_disk_is_reported(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(ValueError, match=r"lab\.partial cannot be written: Read-only file system"):
        enter(disk / "lab")


def test_full_disk_is_reported_with_remedy(disk: Path) -> None:
    with pytest.raises(OSError, match="No space left on device; free some space and run") as error:
        fill(disk)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(disk / "lab"))
    with pytest.raises(OSError, match="about 5 MB are needed and 0 MB are free; free some"):
        check_disk(disk, 4_000_001)


def test_other_os_errors_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"), report_full_disk(tmp_path):
        (tmp_path / "nowhere").read_bytes()


def test_free_space_is_compared_with_requirement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=10**7))
    monkeypatch.setattr(work_folder, "shutil", free)
    check_disk(tmp_path, 10**7)
    with pytest.raises(OSError, match="about 11 MB are needed and 10 MB are free"):
        check_disk(tmp_path, 10**7 + 1)


def test_flush_to_disk_replaces_the_target(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    flush_to_disk(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "new" and not (tmp_path / "a").exists()
