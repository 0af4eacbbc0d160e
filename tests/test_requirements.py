"""The lock file of tested versions, the lower bounds, and the minimum Python version agree."""

import ast
import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements/lock-cpu.txt").read_text(encoding="utf-8").splitlines()
EXTRAS = ("lora", "track", "app", "engines", "heif")


def locked() -> dict[str, str]:
    lines = [line for line in LOCK if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in lines), "no hosts, no ranges"
    return dict(line.split("==") for line in lines)


def test_lock_has_every_dependency_within_bounds() -> None:
    versions = locked()
    wanted = [*PROJECT["dependencies"]]
    for extra in EXTRAS:
        wanted += PROJECT["optional-dependencies"][extra]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])
    assert not [name for name in versions if name.startswith("nvidia")]


def test_ci_installs_the_locked_versions() -> None:
    assert "requirements/lock-cpu.txt" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_archives_are_never_extracted_by_standard_library() -> None:
    """Only headers are read with `tarfile`, so faults of its filters cannot write a file."""
    python = SpecifierSet(PROJECT["requires-python"])
    assert "3.11.4" in python and "3.11.3" not in python, "the first with tarfile's data filter"
    for path in (*ROOT.glob("hf_wbc/**/*.py"), *ROOT.glob("dataset_scripts/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("extractall", "extract", "unpack_archive"), path
