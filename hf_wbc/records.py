"""The folder of a run: its files, how they are written atomically, and how damage is detected.

config.json          what the user requested and what it resolved to; its digest names the folder
history.jsonl        one line per evaluation, and lines with the losses of the steps between
checkpoint/          state for resuming, by step; deleted when the run is finished
model/               a plain transformers model with its image processor
predictions.parquet  one row per scored image
features.parquet     penultimate features of those images
record.json          complete record of the run; written last, it marks the run as finished
failure.json         error that ended the last attempt; deleted when the next attempt starts
.lock                exists and is locked while a process writes here
"""

import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hf_wbc.file_lock import exclusive_lock, is_locked
from hf_wbc.record_versions import RECORD_VERSION, upgrade_history_row, upgrade_record

_LONG_NAME = 180
"""Bytes of a file name from which its temporary siblings have a shorter one."""
ABANDONED_S = 7 * 24 * 3600
"""Age in seconds at which an unfinished file of another machine counts as abandoned."""


def digest(values: Mapping[str, Any]) -> str:
    """Return the first twelve hex digits of the SHA-256 of the canonical JSON of `values`."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # File names that are not UTF-8 hold surrogates.
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]


_FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of writing to a file that is open, which do not name it."""


@contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling of `path` to write, which replaces `path` at the end.

    The temporary path can become a file or a folder. After an error or a crash, `path` is
    unchanged. No other process gets the same temporary path, on whatever machine it runs: of two
    that write at the same time, the last one to finish wins. Leftovers of processes that were
    killed are removed.
    """
    remove_abandoned(path)
    temporary, old = temporary_sibling(path), temporary_sibling(path, "old")
    try:
        yield temporary
        _move(temporary, path, old)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            error.filename = str(path)
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    finally:
        remove(temporary)
        remove(old)


def _move(temporary: Path, path: Path, old: Path) -> None:
    """Move `temporary` to `path`; a folder that is there, or that appears meanwhile, is deleted."""
    while True:
        if path.is_dir():
            with suppress(FileNotFoundError):  # another process has just moved it
                path.rename(old)
        try:
            temporary.replace(path)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR):
                raise
            remove(old)


def temporary_sibling(path: Path, what: str = "partial") -> Path:
    """Return a new path beside `path` for a new ("partial") or replaced ("old") version.

    Its name contains the host, a digest of the boot and of the container, the process id, and a
    random number, so that no two calls return the same path.
    """
    return path.with_name(f".{_short(path.name)}.{unique_tag()}.{what}")


def _short(name: str) -> str:
    """Return a name that leaves room for more; file systems allow 255 bytes, 85 Chinese signs."""
    data = os.fsencode(name)
    if len(data) <= _LONG_NAME:
        return name
    start = os.fsdecode(data[: _LONG_NAME - 20]).encode(errors="ignore").decode()
    return f"{start}~{hashlib.sha256(data).hexdigest()[:12]}"


def unique_tag() -> str:
    """Return a part of a file name that no other call returns: `HOST-SYSTEM-PID-RANDOM`."""
    return f"{_system()}-{os.getpid()}-{secrets.token_hex(4)}"


def _system() -> str:
    """Return the host name and a digest of what process ids are relative to."""
    host = os.uname().nodename
    facts = [host]
    with suppress(OSError):  # only Linux has these
        facts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8"))
        facts.append(str(Path("/proc/self/ns/pid").readlink()))
    known = hashlib.sha256("\0".join(facts).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^0-9A-Za-z]+', '_', host)[:24]}-{known}"


def remove_abandoned(path: Path) -> None:
    """Delete temporary siblings of `path` whose process no longer runs.

    Whether a process of another machine, container or boot runs is unknown; what it left is deleted
    once nothing in it has changed for a week.
    """
    for what in ("partial", "old"):
        for left in path.parent.glob(f".{glob.escape(_short(path.name))}.*.{what}"):
            system, _, process = left.name.split(".")[-2].rpartition("-")[0].rpartition("-")
            if not process.isdigit():
                continue
            is_dead = system == _system() and not _runs(int(process))
            if is_dead or time.time() - _last_change(left) > ABANDONED_S:
                remove(left)


def _last_change(path: Path) -> float:
    """Return the time of the last change of a file, or of anything within a folder."""
    times = [0.0]
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):  # its writer has just moved it
            times.append(each.lstat().st_mtime)
    return max(times)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def remove(path: Path) -> None:
    """Delete a file, a link or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def require_own_folder(out: Path, record: str, command: str) -> None:
    """Check that a folder may be replaced: it is absent, empty, or was written by the same command.

    Args:
        out: The folder.
        record: File that the command always writes there.
        command: The command, for the message.

    Raises:
        ValueError: If it holds anything else.
    """
    is_empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not is_empty and not (out / record).is_file():
        raise ValueError(f"{out} was not created by `{command}`; choose another folder")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write indented JSON atomically."""
    with atomic_replace(path) as temporary:
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: File to read.
        remedy: What to do about a missing or damaged file, for the error message.

    Raises:
        ValueError: If the file is missing or damaged.
    """
    end = f"; {remedy}" if remedy else ""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing{end}") from None
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}{end}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: not a JSON object{end}")
    return values


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path
    """Path of the folder."""

    @classmethod
    def find(cls, root: Path, identity: Mapping[str, Any]) -> Self:
        """Return the folder of the run that `identity` determines, without writing anything.

        Args:
            root: Parent of all run folders.
            identity: What the run resolved to.

        Raises:
            ValueError: If the folder holds another run.
        """
        run = cls(root / digest(identity))
        if run.config.exists():
            found = read_json(run.config, run.remedy)
            if digest(found.get("identity", {})) != run.path.name:
                raise ValueError(
                    f"{run.config} belongs to another run than its folder; {run.remedy}"
                )
        return run

    @contextmanager
    def writing(self, config: Mapping[str, Any], identity: Mapping[str, Any]) -> Iterator[None]:
        """Create the folder, lock it, and delete leftovers of a crash.

        Args:
            config: What the user requested.
            identity: What it resolved to, with content digests instead of locations.

        Raises:
            BusyError: If another process is writing to the folder.
        """
        busy = f"another process is writing {self.path}; wait until it has ended"
        with exclusive_lock(self.lock, busy):
            self._make(config, identity)
            for leftover in self.path.glob(".*"):
                if leftover != self.lock and not leftover.name.startswith(".nfs"):
                    remove(leftover)
            remove(self.failure)
            yield

    def _make(self, config: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.config.exists():
            write_json(self.config, {"config": config, "identity": identity})

    @property
    def is_busy(self) -> bool:
        """Whether a process is writing to the folder."""
        return is_locked(self.lock)

    @property
    def remedy(self) -> str:
        """What to do about a damaged folder, for error messages."""
        return f"delete {self.path} and repeat the command that made it"

    @property
    def lock(self) -> Path:
        """The file that a process locks while it writes to the folder."""
        return self.path / ".lock"

    @property
    def config(self) -> Path:
        """What the user requested and what it resolved to."""
        return self.path / "config.json"

    @property
    def record(self) -> Path:
        """Complete record of the run; it exists once the run is finished."""
        return self.path / "record.json"

    @property
    def history(self) -> Path:
        """Evaluations and losses, one per line; see `append_history`."""
        return self.path / "history.jsonl"

    @property
    def checkpoint(self) -> Path:
        """State for resuming, by step."""
        return self.path / "checkpoint"

    @property
    def model(self) -> Path:
        """The exported model with its image processor."""
        return self.path / "model"

    @property
    def predictions(self) -> Path:
        """Predictions, one row per scored image."""
        return self.path / "predictions.parquet"

    @property
    def features(self) -> Path:
        """Penultimate features of the scored images."""
        return self.path / "features.parquet"

    @property
    def failure(self) -> Path:
        """Error that ended the last attempt."""
        return self.path / "failure.json"

    @property
    def finished(self) -> bool:
        """Whether the record exists."""
        return self.record.exists()

    def append_history(self, row: Mapping[str, Any]) -> None:
        """Append an evaluation, flushed to disk; or, with `of`, the losses since the last line."""
        with self.history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            if "of" not in row:
                os.fsync(file.fileno())

    def read_history(self) -> list[dict[str, Any]]:
        """Return the evaluations; ValueError if a line is damaged."""
        return [row for row in self._read_lines() if "of" not in row]

    def last_step(self) -> int:
        """Return the newest step of the history; 0 if there is none."""
        return max((int(row["step"]) for row in self._read_lines()), default=0)

    def _read_lines(self) -> list[dict[str, Any]]:
        """Return all complete lines; a last line that a crash truncated is ignored."""
        if not self.history.exists():
            return []
        try:
            lines = self.history.read_text(encoding="utf-8").split("\n")
            rows = [upgrade_history_row(json.loads(line)) for line in lines[:-1]]
            if all(isinstance(row["step"], int) for row in rows):
                return rows
            raise ValueError("a line has no step")
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(f"{self.history} is damaged: {error}; {self.remedy}") from error

    def rewind_history(self, step: int) -> list[dict[str, Any]]:
        """Delete the lines after `step`, which a resumed run rewrites, and return the others."""
        rows = [row for row in self._read_lines() if row["step"] <= step]
        with atomic_replace(self.history) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return rows

    def write_failure(
        self, config: Mapping[str, Any], identity: Mapping[str, Any], failure: Mapping[str, Any]
    ) -> None:
        """Write the error that ended the run, creating the folder if necessary."""
        self._make(config, identity)
        write_json(self.failure, failure)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Mark the run as finished; all other files must already exist."""
        write_json(self.record, {"version": RECORD_VERSION, **record})
        remove(self.failure)

    @contextmanager
    def report_damage(self, *others: type[Exception]) -> Iterator[None]:
        """Report errors of using the record, such as a missing value, as damage of the record.

        Args:
            others: Further types of errors that values of other types cause.

        Raises:
            ValueError: Names the record, and says what to do.
        """
        damage: tuple[type[Exception], ...] = (ArithmeticError, AttributeError, LookupError)
        damage += (TypeError, *others)
        try:
            yield
        except damage as error:
            raise ValueError(f"{self.record} is damaged ({error!r}); {self.remedy}") from error

    def read_record(self) -> dict[str, Any]:
        """Return the record of a finished run, in today's format.

        Raises:
            ValueError: If the record is missing, damaged, or of a newer version.
        """
        record = read_json(self.record, self.remedy)
        try:
            return upgrade_record(record)
        except ValueError as error:
            raise ValueError(f"{self.record} {error}") from None
        except (AttributeError, KeyError, RecursionError, TypeError) as error:
            raise ValueError(f"{self.record} is damaged ({error}); {self.remedy}") from error
