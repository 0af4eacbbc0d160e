"""Where a dataset grows until it is whole: OUT.partial beside OUT.

OUT.partial/lock          held while a process works here; gone with the process
OUT.partial/scratch/      a decompressed archive
OUT.partial/PLAN/         one build, named by the digest of all that decides its bytes
    scan.npz              the first pass
    done/                 a note for each shard that is whole
    temporary/            shards that are being written
    out/                  becomes OUT, by one rename
"""

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_wbc.data.schema import CONFIGS
from hf_wbc.records import digest, read_json, remove

PROVENANCE = "provenance.json"


@dataclass(frozen=True)
class WorkFolder:
    """The unfinished neighbour of `out`."""

    out: Path

    @property
    def root(self) -> Path:
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def scratch(self) -> Path:
        return self.root / "scratch"

    def build(self, plan: Mapping[str, Any]) -> Path:
        """The folder of this plan with its empty parts, as an earlier process left it.

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

    def remove(self) -> None:
        """Delete what a finished build no longer needs."""
        remove(self.root)

    def finish(self, folder: Path) -> None:
        """Let OUT appear."""
        if self.out.is_dir():
            self.out.rmdir()  # it is empty, or `is_finished` would have refused it
        (folder / "out").rename(self.out)
        remove(self.root)


@contextmanager
def working_on(out: Path) -> Iterator[WorkFolder]:
    """The work folder of `out`, for this process alone; ValueError when another one holds it.

    What an interrupted process left there stays for the next one. A mistake of the user's, a
    ValueError, leaves nothing new behind.
    """
    from filelock import FileLock, Timeout

    work = WorkFolder(out)
    is_new = not work.root.exists()
    work.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work.root / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"another process is building {out}; wait until it is done, or choose another --out"
        ) from error
    try:
        yield work
    except ValueError:
        if is_new:
            remove(work.root)
        raise
    finally:
        lock.release()


def is_finished(out: Path, plan: Mapping[str, Any]) -> bool:
    """Whether `out` holds what `plan` asks for; ValueError when it holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    remedy = "choose another --out or delete it"
    if not (out / PROVENANCE).is_file():
        raise ValueError(f"{out} is not a folder that `hf-wbc prepare` made; {remedy}")
    made = read_json(out / PROVENANCE).get("plan", {})
    if other := [name for name in plan if made.get(name) != plan[name]]:
        raise ValueError(f"{out} was made with another {', '.join(other)}; {remedy}")
    return True


def check_disk(folder: Path, num_bytes: int) -> None:
    """OSError when the disk has no room for `num_bytes` more."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OSError(
            errno.ENOSPC,
            f"about {num_bytes / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free; "
            "free some or choose an --out on another disk",
            str(folder),
        )
