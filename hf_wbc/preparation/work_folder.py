"""The folder in which a dataset is built until it is complete: OUT.partial beside OUT.

OUT.partial/lock          held while a process works here; released when the process ends
OUT.partial/scratch/      a decompressed archive
OUT.partial/PLAN/         one build, named by the digest of everything that determines its bytes
    scan.npz              the first pass
    done/                 a note for each finished shard
    temporary/            shards that are being written
    out/                  renamed to OUT at the end
"""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_wbc.data.schema import CONFIGS, PROVENANCE
from hf_wbc.file_lock import exclusive_lock
from hf_wbc.records import digest, read_json, remove

_REMEDY = "free some space and run the same command to resume, or choose an --out on another disk"


@dataclass(frozen=True)
class WorkFolder:
    """The unfinished neighbor of `out`."""

    out: Path

    @property
    def root(self) -> Path:
        """The folder OUT.partial."""
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def scratch(self) -> Path:
        """Where a compressed archive is unpacked."""
        return self.root / "scratch"

    def build(self, plan: Mapping[str, Any]) -> Path:
        """Return the folder of this plan with its subfolders, as an earlier process left it.

        Folders of other plans are deleted.
        """
        folder = self.root / digest(plan)
        for other in self.root.iterdir():
            if other.is_dir() and other not in (folder, self.scratch):
                remove(other)
        remove(folder / "temporary")
        for part in ("done", "temporary", *(f"out/{config}" for config in CONFIGS)):
            (folder / part).mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def lock(self) -> Path:
        """The file that a process locks while it works here."""
        return self.root / "lock"

    def remove(self) -> None:
        """Delete everything but the lock file, which its holder deletes.

        On NFS, a deleted file that is still open keeps its folder from being deleted.
        """
        for path in self.root.iterdir():
            if path != self.lock and not path.name.startswith(".nfs"):
                remove(path)

    def finish(self, folder: Path) -> None:
        """Rename the finished build to `out`."""
        if self.out.is_dir():
            self.out.rmdir()  # it is empty, or `is_finished` would have refused it
        (folder / "out").rename(self.out)
        self.remove()


@contextmanager
def lock_work_folder(out: Path) -> Iterator[WorkFolder]:
    """Lock the work folder of `out` for this process.

    What an interrupted process left there stays. A ValueError (a mistake of the user) leaves
    nothing
    new behind.

    Raises:
        ValueError: Another process holds the folder, or it cannot be written.
    """
    work = WorkFolder(out)
    new = [folder for folder in (work.root, *work.root.parents) if not folder.exists()]
    if out.is_mount():
        raise ValueError(f"{out} is a mount point; choose a folder on it: {out / 'cells'}")
    busy = f"another process is building {out}; wait until it finishes, or choose another --out"
    lock = ExitStack()
    try:
        lock.enter_context(exclusive_lock(work.lock, busy))
    except OSError as error:
        raise ValueError(
            f"{work.root} cannot be written: {error.strerror}; choose another --out"
        ) from error
    is_mistake = False
    try:
        yield work
    except ValueError:
        is_mistake = True
        if new:
            work.remove()
        raise
    finally:
        lock.close()
        for folder in [work.root, *(new[1:] if is_mistake else ())]:
            with suppress(OSError):  # it is unfinished, or another process has put something there
                folder.rmdir()


@contextmanager
def report_full_disk(out: Path) -> Iterator[None]:
    """Add a remedy to the error of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) or ";" in str(error.strerror):
            raise
        message = f"{os.strerror(error.errno)}; {_REMEDY}"
        raise OSError(error.errno, message, str(out)) from error


def is_finished(out: Path, plan: Mapping[str, Any]) -> bool:
    """Return whether `out` holds the build of `plan`; ValueError if it holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    remedy = "choose another --out or delete it"
    if not (out / PROVENANCE).is_file():
        raise ValueError(f"{out} was not created by `hf-wbc prepare`; {remedy}")
    made = read_json(out / PROVENANCE).get("plan", {})
    if other := [name for name in plan if made.get(name) != plan[name]]:
        raise ValueError(f"{out} was built with a different {', '.join(other)}; {remedy}")
    return True


def check_disk(folder: Path, num_bytes: int) -> None:
    """Raise OSError if the disk has less than `num_bytes` free."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        needed, there = -(-num_bytes // 10**6), free // 10**6
        message = f"about {needed:,} MB are needed and {there:,} MB are free; {_REMEDY}"
        raise OSError(errno.ENOSPC, message, str(folder))


def flush_to_disk(temporary: Path, path: Path) -> None:
    """Sync a file to disk, then move it to its place, so that a power failure cannot corrupt it."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
