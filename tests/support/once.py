"""Files that all worker processes of a test session share, made by the first that needs them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` fills in one worker process while the others wait.

    Tests only read the folder.

    Args:
        factory: The session's `tmp_path_factory`.
        name: Name of the folder, unique in the session.
        make: Fills the folder, whose path it receives; the folder exists and is empty.
    """
    base = factory.getbasetemp()
    root = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = root / "once" / name
    complete = folder.with_name(f"{name}.complete")
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a failure
            folder.mkdir()
            make(folder)
            complete.touch()
    return folder
