"""A lock excludes other processes, ends with its process, and works as NFS requires."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hf_wbc.file_lock import BusyError, exclusive_lock, is_locked, lock_output, try_lock
from hf_wbc.records import RunFolder

HOLD = """
import sys, time
from pathlib import Path
from hf_wbc.file_lock import try_lock
lock = try_lock(Path(sys.argv[1]))
print("held" if lock else "busy", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def nfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock files as an NFS client does, by the access mode of the descriptor (man 2 flock)."""
    flock = fcntl.flock

    def nfs_flock(file: int, operation: int) -> None:
        mode = fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE
        wrong = os.O_RDONLY if operation & fcntl.LOCK_EX else os.O_WRONLY
        if mode == wrong and not operation & fcntl.LOCK_UN:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", nfs_flock)


@pytest.mark.usefixtures("nfs")
def test_run_is_locked_on_nfs(tmp_path: Path) -> None:
    run = RunFolder.find(tmp_path, {})
    assert not run.is_busy
    with run.writing({}, {}):
        assert run.is_busy
        with pytest.raises(BusyError, match="another process is writing"), run.writing({}, {}):
            pass
    assert not run.is_busy and [path.name for path in run.path.iterdir()] == ["config.json"]


def test_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"held\n"
        assert is_locked(path) and try_lock(path) is None
        other.kill()
    assert path.exists() and not is_locked(path)
    with exclusive_lock(path, "busy"):
        pass
    assert not path.exists()


def test_lock_is_exclusive_although_its_file_is_deleted(tmp_path: Path) -> None:
    path, counter = tmp_path / "lock", tmp_path / "counter"
    counter.write_text("0")

    def count() -> None:
        for _ in range(20):
            with exclusive_lock(path, "busy", on_wait=lambda: None):
                number = int(counter.read_text())
                time.sleep(0.0002)
                counter.write_text(str(number + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.read_text() == "80" and not path.exists()


def test_second_command_with_same_output_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "new" / "report"
    with (
        lock_output(out),
        pytest.raises(BusyError, match=rf"writing {out}; .*another --out"),
        lock_output(out),
    ):
        pass
    with lock_output(out):
        pass
    assert list(out.parent.iterdir()) == []


def test_file_system_without_locks_causes_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.warns(UserWarning, match=rf"{tmp_path} has no file locks"),
        exclusive_lock(tmp_path / "lock", "busy"),
    ):
        assert not is_locked(tmp_path / "lock")


def test_unwritable_folder_is_an_error() -> None:
    with pytest.raises(FileNotFoundError), lock_output(Path("/proc/report")):
        pass
