"""Whatever fails during publication, others load either the old state or the new one."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.hub_server import LoopbackHub, Repo

from hf_wbc.hub.publication import TAG

CELLS = "lab/cells"
TESTS = Path(__file__).resolve().parents[1]
Files = dict[str, str]


class Publisher:
    """Runs `support.hub_publish_process`; each publication is a process that can be killed."""

    def __init__(self, env: dict[str, str], scratch: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.hub_publish_process"],
            cwd=TESTS,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
        )  # fmt: skip
        self._log = scratch / "publisher.log"
        self._pid = 0
        self._known = threading.Event()
        self.num_steps = 0

    def publish(self, folder: Path, to: str, tag: str | None = None, **more: Any) -> int:
        """Return the status: 0, 1 for a reported error, or the negative signal number."""
        assert self._process.stdin and self._process.stdout
        self._known.clear()
        asked = {"folder": str(folder), "to": to, "tag": tag, "kind": "dataset", **more}
        self._process.stdin.write(json.dumps({**asked, "log": str(self._log)}) + "\n")
        self._process.stdin.flush()
        self._pid = json.loads(self._process.stdout.readline())["pid"]
        self._known.set()
        ended = json.loads(self._process.stdout.readline())
        self.num_steps = ended["steps"]
        return int(ended["status"])

    def kill(self) -> None:
        """Kill the process of the current publication."""
        assert self._known.wait(60)
        os.kill(self._pid, signal.SIGKILL)

    @property
    def words(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)


@pytest.fixture
def publisher(client_env: Callable[..., dict[str, str]], tmp_path: Path) -> Iterator[Publisher]:
    publisher = Publisher(client_env(), tmp_path)
    yield publisher
    publisher.close()


@pytest.fixture
def states(tmp_path: Path) -> tuple[Path, Path]:
    """Write two folders to publish that share some files, including large ones."""
    shared = random.Random(0).randbytes(3000)
    folders = []
    for name, more in (("old", ("b",)), ("new", ("c", "d"))):
        folder = tmp_path / name
        (folder / "cropped").mkdir(parents=True)
        (folder / "README.md").write_text(f"---\nlicense: other\n---\n\n# {name}: {TAG}\n")
        (folder / "cropped/a.parquet").write_bytes(shared)
        for part in more:
            data = random.Random(name + part).randbytes(2000)
            (folder / f"cropped/{part}.parquet").write_bytes(data)
        (folder / "provenance.json").write_text(json.dumps({"name": name}))
        folders.append(folder)
    return folders[0], folders[1]


def content(folder: Path) -> Files:
    """Return digests by path of the published content: v1 is the old state, v2 the new one."""
    tag = {"old": b"v1", "new": b"v2"}.get(folder.name, TAG.encode())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(
            path.read_bytes().replace(TAG.encode(), tag)
        ).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def served(repo: Repo, revision: str) -> Files:
    """Return what the Hub serves for a revision."""
    return {
        path: hashlib.sha256(repo.read(entry).read_bytes()).hexdigest()
        for path, entry in repo.files(revision).items()
        if not path.startswith(".")
    }


def refs(repo: Repo) -> dict[str, Files]:
    """Return what every branch and tag serves."""
    if not (repo.path / "repo.json").exists():
        return {}
    names = [*repo.refs("heads"), *repo.refs("tags")]
    return {name: served(repo, name) for name in names}


def break_at(
    hub: LoopbackHub,
    publisher: Publisher,
    states: tuple[Path, Path],
    how: str,
    num_bytes: int,
    before: Path | None,
) -> int:
    """Publish the new state with one fault, then repeat; return the status."""
    old, new = states
    expected = {"main": [{}], "v2": [content(new)]}
    shutil.rmtree(hub.store.root / "datasets", ignore_errors=True)
    if before:
        shutil.copytree(before, hub.store.root / "datasets")
        expected = {"main": [content(old)], "v1": [content(old)], "v2": [content(new)]}
    expected["main"].append(content(new))
    repo = hub.repo("dataset", CELLS)
    hub.faults.cut_at(
        num_bytes,
        dead=how == "the Hub dies",
        action=publisher.kill if how == "the publisher is killed" else None,
    )
    tag = None if before else "v2"  # v2 is the next tag in that case
    status = publisher.publish(new, CELLS, tag)
    point = f"{how} at byte {num_bytes}; {'new' if before is None else 'old'}; {status}"
    for name, files in refs(repo).items():
        assert files in expected[name], f"{point}: {name} serves a mixture"
    if before:
        assert "v1" in refs(repo), point
    hub.faults.clear()
    assert publisher.publish(new, CELLS, tag) == 0, f"{point}: {publisher.words}"
    found = refs(repo)
    assert found["v2"] == found["main"] == content(new), point
    assert not before or found["v1"] == content(old), point
    titles = [commit["title"] for commit in repo.history("main")]
    assert titles == ["Publish"] * (2 if before else 1) + ["initial commit"], point
    return status


FAULTS = ("the connection drops", "the Hub dies", "the publisher is killed")


@pytest.mark.parametrize(
    "num_points",
    [
        pytest.param(10, id="10", marks=(pytest.mark.slow, pytest.mark.ci)),
        pytest.param(200, id="200", marks=pytest.mark.slow),
    ],
)
def test_fault_at_any_byte_leaves_old_or_new_state_and_can_resume(
    hub: LoopbackHub,
    publisher: Publisher,
    states: tuple[Path, Path],
    tmp_path: Path,
    num_points: int,
) -> None:
    rng = random.Random(num_points)
    before = tmp_path / "before"
    hub.part_size = 1500  # to upload large files in parts
    assert publisher.publish(states[0], CELLS, "v1") == 0, publisher.words
    shutil.copytree(hub.store.root / "datasets", before)
    hub.faults.clear()
    assert publisher.publish(states[1], CELLS, "v2") == 0, publisher.words
    total = hub.faults.num_bytes
    statuses = []
    for number in range(num_points):
        how = FAULTS[number % len(FAULTS)]
        start = before if rng.random() < 0.7 else None
        point = rng.randrange(total)
        statuses.append((how, break_at(hub, publisher, states, how, point, start)))
    for how, expected in zip(FAULTS, ({0}, {1}, {-signal.SIGKILL}), strict=True):
        assert {status for what, status in statuses if what == how} <= expected | {0}
    assert -signal.SIGKILL in {status for _, status in statuses}


@pytest.mark.parametrize(
    "num_points", [pytest.param(12, id="12"), pytest.param(0, id="all", marks=pytest.mark.slow)]
)
@pytest.mark.slow
@pytest.mark.ci
def test_killed_publication_leaves_folder_complete(
    publisher: Publisher, states: tuple[Path, Path], tmp_path: Path, num_points: int
) -> None:
    old, new = states
    for folder in states:  # large enough to be hard-linked
        (folder / "cropped/a.parquet").write_bytes(b"1" * 1_000_001)
    share, before = tmp_path / "share", tmp_path / "before"
    to = str(share / "cells")
    assert publisher.publish(old, to, "v1") == 0, publisher.words
    shutil.copytree(share, before)
    assert publisher.publish(new, to, "v2") == 0, publisher.words
    assert (share / "cells/cropped/a.parquet").samefile(share / "cells@v1/cropped/a.parquet")
    steps = [*range(publisher.num_steps)]
    if num_points:  # the last operations swap the folders
        steps = [*random.Random(0).sample(steps[:-8], num_points - 8), *steps[-8:]]
    for step in steps:
        shutil.rmtree(share)
        shutil.copytree(before, share)
        assert publisher.publish(new, to, "v2", kill_at=step) == -signal.SIGKILL
        assert content(share / "cells") in (content(old), content(new)), step
        assert content(share / "cells@v1") == content(old), step
        if (share / "cells@v2").exists():
            assert content(share / "cells@v2") == content(new), step
        assert publisher.publish(new, to, "v2") == 0, f"{step}: {publisher.words}"
        assert content(share / "cells") == content(share / "cells@v2") == content(new), step
        assert content(share / "cells@v1") == content(old), step
        left = {path.name for path in share.iterdir()}
        assert left == {"cells", "cells@v1", "cells@v2"}, step
