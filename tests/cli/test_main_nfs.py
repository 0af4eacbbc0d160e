"""Commands work where files are locked as on NFS, or where there are no locks at all."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_wbc.cli.main import main
from hf_wbc.config import TrainConfig

Flock = Callable[[int | object, int], None]


def like_nfs(flock: Flock) -> Flock:
    """An exclusive lock needs a file that is open for writing, a shared one for reading."""

    def locked(file: int | object, operation: int) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()  # type: ignore[attr-defined]
        mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
        wrong = {fcntl.LOCK_EX: os.O_RDONLY, fcntl.LOCK_SH: os.O_WRONLY}
        if any(operation & kind and mode == bad for kind, bad in wrong.items()):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, operation)

    return locked


def without_locks(flock: Flock) -> Flock:
    def locked(file: int | object, operation: int) -> None:
        if operation != fcntl.LOCK_UN:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    return locked


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.filterwarnings("ignore:the file system of .* has no file locks")
@pytest.mark.parametrize("emulate", [like_nfs, without_locks])
def test_every_command_works_on_nfs(
    emulate: Callable[[Flock], Flock], laboratories: tuple[str, str], tiny_model: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    home, away = laboratories
    monkeypatch.setattr(fcntl, "flock", emulate(fcntl.flock))
    monkeypatch.setattr("hf_wbc.study.worker.START", "fork")
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(
        sources=(home,), target=(away,), model=tiny_model, steps=2, batch_size=8, eval_steps=1
    )
    Path("grid.py").write_text(
        "from hf_wbc.config import TrainConfig\n"
        f"def study():\n    c = TrainConfig.from_dict({config.to_dict()!r})\n"
        "    return [c.replace(method=m) for m in ('source_only', 'coral')]\n",
        encoding="utf-8",
    )
    short = ["--model", tiny_model, "--steps", "2", "--batch-size", "8", "--eval-steps", "1"]
    assert main(["train", "--sources", home, *short, "--output-dir", "trained"]) == 0
    (model,) = Path("trained").glob("*/model")
    assert main(["study", "grid.py", "--out", "runs", "--cache", "cache", "--workers", "2"]) == 0
    assert main(["embed", tiny_model, home, "--cache", "cache"]) == 0
    assert main(["evaluate", str(model), away, "--out", "scores"]) == 0
    assert main(["predict", str(model), away, "--out", "cells.csv"]) == 0
    assert main(["compare", "runs", "--out", "compared", "--resamples", "50", "--no-report"]) == 0
    assert main(["audit", home, away, "--out", "audited", "--num-proc", "1"]) in (0, 3)
    words = ["--out", "labels.csv", "--folder-labels", "--budget", "3"]
    assert main(["label", str(model), away, *words]) == 0
    words = ["--out", "stressed", "--limit", "5", "--corruptions", "jpeg", "--runtime", "torch"]
    assert main(["stress", str(model), away, *words]) == 0
    made = ["trained", "runs", "scores", "cells.csv", "compared", "audited", "stressed"]
    assert all(Path(name).exists() for name in made)
    assert not [path for path in tmp_path.rglob("*.lock") if path.name.startswith(".")]
