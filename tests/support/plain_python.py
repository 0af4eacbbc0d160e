"""A Python environment with only what a user of published datasets and models installs."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from packaging.requirements import Requirement

PACKAGES = ("datasets", "transformers", "torch", "torchvision", "pillow")
"""Packages that such a user installs; their requirements are included."""


def plain_python(site: Path) -> Callable[[str, Path, Mapping[str, str]], str]:
    """Return a function that runs code in a Python with only PACKAGES and returns its output.

    `site` becomes a folder of links to these packages and their requirements; nothing else is on
    the path.
    """
    site.mkdir()
    wanted, done = list(PACKAGES), set[str]()
    while wanted:
        name = wanted.pop().lower().replace("_", "-")
        if name in done:
            continue
        done.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # required only on another platform
        for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(str(found.locate_file(top)))
        for line in found.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                wanted.append(requirement.name)

    def run(code: str, cwd: Path, env: Mapping[str, str]) -> str:
        cleared = {name: value for name, value in env.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [sys.executable, "-S", "-c", f"import sys; sys.path.append({str(site)!r})\n{code}"],
            cwd=cwd,
            env={**cleared, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
