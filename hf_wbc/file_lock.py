"""Lock files that work between processes, containers and machines that share a disk.

A lock is an advisory `flock` on a file that exists for this purpose only. It ends with its process,
however that dies. NFS grants an exclusive lock only to a file that is open for writing, so the file
is opened for reading and writing. Its holder deletes it at the end.

This is the only place that locks files; `hf_wbc.records` names temporary files so that writers
never share one, even where the file system has no locks.
"""

import errno
import fcntl
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ATTEMPTS = 100
"""Times to create a folder again that other processes keep deleting."""
_PATIENCE_S = 1.0
"""Seconds that `exclusive_lock` tries, because `is_locked` holds the file for an instant."""
_POLL_S = 0.05
_UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})


class BusyError(ValueError):
    """Another process is writing to the same place."""


class FileLock:
    """An exclusive lock that this process holds on a file."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    def release(self) -> None:
        """Delete the file and release the lock."""
        try:
            if _is_same(self._descriptor, self._path):
                self._path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)


def try_lock(path: Path) -> FileLock | None:
    """Lock a file, which is created if necessary, or return None if another process holds it.

    Where the file system has no locks, a warning says so and the caller goes on without one.

    Args:
        path: The lock file, in an existing folder.

    Raises:
        OSError: If the file cannot be created or opened.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                os.close(descriptor)
                raise
            warnings.warn(
                f"the file system of {path.parent} has no file locks ({error.strerror}); do not "
                "start two commands that write to the same place there",
                stacklevel=2,
            )
            return FileLock(path, descriptor)
        if _is_same(descriptor, path):
            return FileLock(path, descriptor)
        os.close(descriptor)  # the previous holder has deleted this file; lock the new one


@contextmanager
def exclusive_lock(
    path: Path, busy: str, *, on_wait: Callable[[], None] | None = None
) -> Iterator[None]:
    """Hold the lock of a file for the duration of the block.

    Args:
        path: The lock file; its folder is created if necessary.
        busy: What to say if another process holds the lock.
        on_wait: Called once if another process holds the lock; then the call waits for it. None
            raises an error instead.

    Raises:
        BusyError: If another process holds the lock and `on_wait` is None.
        OSError: If the file cannot be created or opened.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while (lock := _try_lock_in_new_folder(path)) is None:
        if time.monotonic() > deadline:
            if on_wait is None:
                raise BusyError(busy)
            on_wait()
            deadline = float("inf")
        time.sleep(_POLL_S)
    try:
        yield
    finally:
        lock.release()


def _try_lock_in_new_folder(path: Path) -> FileLock | None:
    """Try to lock a file whose folder may not exist, or be deleted by its previous holder."""
    for _ in range(_ATTEMPTS):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            return try_lock(path)
    return try_lock(path)  # some folders, such as /proc, exist and take no file


@contextmanager
def lock_output(out: Path, waits: bool = False) -> Iterator[None]:
    """Hold the lock of a command's output, a file or folder, in `.NAME.lock` beside it.

    Args:
        out: What the command writes; the folder that contains it is created if necessary.
        waits: Wait for another command, which holds the lock for an instant only.

    Raises:
        BusyError: If another command is writing it, unless `waits`.
    """
    busy = f"another command is writing {out}; wait until it has ended, or choose another --out"
    out = Path(os.path.abspath(out))  # noqa: PTH100  # links stay: they are replaced themselves
    on_wait = (lambda: None) if waits else None
    with exclusive_lock(out.with_name(f".{out.name}.lock"), busy, on_wait=on_wait):
        yield


def is_locked(path: Path) -> bool:
    """Return whether another process holds the lock of a file, which may be absent."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
    return False


def _is_same(descriptor: int, path: Path) -> bool:
    """Return whether `path` still names the open file."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
