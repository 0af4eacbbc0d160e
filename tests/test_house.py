"""Project structure: layering, file length, fast help, and a complete wheel."""

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "transformers", "datasets", "accelerate", "evaluate", "gradio", "matplotlib")
ROOMS = {"dataset_scripts": "dataset_scripts", "spaces": "spaces"}
"""Folders whose tests are not about a room of `hf_wbc`."""
PYTHON_FILES = sorted(
    path
    for folder in ("hf_wbc", "dataset_scripts", "spaces", "tests")
    for path in (ROOT / folder).rglob("*.py")
)


def test_imports_follow_the_room_order() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_every_file_is_short_and_has_docstrings() -> None:
    assert not [f"{path}: {fault}" for path in PYTHON_FILES for fault in faults(path)]


def faults(path: Path) -> Iterator[str]:
    """Yield what is too long in a file, or lacks a docstring."""
    text = path.read_text(encoding="utf-8")
    if len(text.splitlines()) > 400:
        yield "over 400 lines"
    tree = ast.parse(text)
    if text.strip() and not ast.get_docstring(tree):
        yield "no docstring"
    if not path.is_relative_to(ROOT / "tests"):
        for node in ast.walk(tree):
            is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_function and node.end_lineno - node.lineno >= 60:
                yield f"{node.name} is over 60 lines"


def test_file_names_are_unique_except_for_commands() -> None:
    rooms: dict[str, list[str]] = {}
    for path in PYTHON_FILES:
        if path.is_relative_to(ROOT / "tests") or path.is_relative_to(ROOT / "spaces"):
            continue
        if path.name != "__init__.py":
            rooms.setdefault(path.name, []).append(path.parent.name)
    repeated = {name: found for name, found in rooms.items() if len(found) > 1}
    assert not {k: v for k, v in repeated.items() if len(v) > 2 or "cli" not in v}


def test_tests_mirror_the_rooms_by_name() -> None:
    """`hf_wbc/room/module.py` is tested by `tests/room/test_module*.py`."""
    astray = []
    for path in (ROOT / "tests").glob("*/**/test_*.py"):
        room = path.parent.relative_to(ROOT / "tests")
        folders = (ROOT / ROOMS.get(str(room), f"hf_wbc/{room}"), ROOT / "tests/support")
        subject = path.stem.removeprefix("test_") + "_"
        names = [each.stem for folder in folders for each in folder.iterdir()]
        if not any(subject.startswith(f"{name}_") for name in names if name != "__init__"):
            astray.append(str(path.relative_to(ROOT)))
    assert not astray, f"name these after the modules that they test: {astray}"


def test_no_test_loads_a_file_by_path() -> None:
    loading = "spec_from_" + "file_location"
    assert not [path for path in PYTHON_FILES if loading in path.read_text()]


def test_images_are_opened_with_explicit_formats() -> None:
    """Pillow tries some forty parsers on a file unless `formats` names those to try."""
    astray = []
    for path in PYTHON_FILES:
        if path.is_relative_to(ROOT / "tests"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            opens = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open")
            if opens and "formats" not in {keyword.arg for keyword in node.keywords}:
                astray.append(f"{path}, line {node.lineno}")
    assert not astray


def test_map_in_agents_names_existing_files() -> None:
    rows = (ROOT / "AGENTS.md").read_text().partition("## Where is")[2].partition("\n## ")[0]
    for row in rows.splitlines():
        names = re.findall(r"`([^`]+)`", row.rpartition(" | ")[2] if row.startswith("|") else "")
        folder, text = ROOT, ""
        for name in [name for name in names if re.search(r"/|\.\w\w$", name)]:
            path = ROOT / name if "/" in name else folder / name
            assert "NAME" in name or path.exists(), f"{name} in: {row}"
            folder, text = path.parent, text + (path.read_text() if path.is_file() else "")
        for name in [name for name in names if re.fullmatch(r"\w+(\.\w+)?", name)]:
            assert "/" in name or not text or name.rpartition(".")[2] in text, f"{name} in: {row}"


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys; from hf_wbc.cli.main import COMMANDS, load_command\n"
        "for name in COMMANDS: load_command(name)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_wheel_contains_shipped_folders(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for name in (
        "hf_wbc/cli/main.py",
        "dataset_scripts/acevedo_20.py",
        "hf_wbc/_share/model_cards/dataset.md",
        "hf_wbc/_share/spaces/wbc/toy_model/config.json",
        "hf_wbc/_share/spaces/wbc_macro_f1/wbc_macro_f1.py",
        "hf_wbc/app/templates/page.css",
    ):
        assert name in names


RAN: list[str] = []
"""Tests that this process has run, of those below."""


@pytest.mark.parametrize("number", range(4))
def test_one_worker_runs_all_tests_of_a_file(number: int, request: pytest.FixtureRequest) -> None:
    """Otherwise every worker would make the fixtures of every file."""
    RAN.append(request.node.nodeid)
    name = request.node.originalname
    collected = [item.nodeid for item in request.session.items if name in item.nodeid]
    assert collected[: len(RAN)] == RAN
