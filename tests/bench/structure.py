"""Print source-tree metrics as a Markdown table.

Usage: python tests/bench/structure.py
"""

import ast
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("hf_wbc", "dataset_scripts")
EVERYWHERE = frozenset({"__init__.py", "__main__.py"})
SHORT, LONG = 60, 400
"""Line counts: the minimum for a file with a single importer, and the limit for a long file."""


def module_name(path: Path) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.AST, modules: set[str]) -> set[str]:
    """Return the project modules that a file imports anywhere, including inside functions."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names & modules


def top_level_imports(tree: ast.Module, modules: set[str]) -> set[str]:
    """Return the project modules that are imported when the file is imported."""
    found = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return imports_of(ast.Module(body=list(found), type_ignores=[]), modules)


def closure(start: set[str], graph: dict[str, set[str]]) -> set[str]:
    """Return all direct and indirect imports, including parent packages."""
    seen: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name in seen or name not in graph:
            continue
        seen.add(name)
        parts = name.split(".")
        waiting += [".".join(parts[:i]) for i in range(1, len(parts))]
        waiting += graph[name]
    return seen


def help_seconds(repeats: int = 10) -> tuple[float, float]:
    """Return the median wall times in seconds of `hf-wbc --help` and of `python -c pass`.

    Runs alternate between the two, so that both see the same load of the machine.
    """
    help_code = "import sys; from hf_wbc.cli.main import main; sys.exit(main(['--help']))"
    walls: dict[str, list[float]] = {help_code: [], "pass": []}
    for _ in range(repeats):
        for code, found in walls.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=ROOT)
            found.append(time.perf_counter() - start)
    return median(walls[help_code]), median(walls["pass"])


def repeated_names(paths: list[Path]) -> tuple[list[str], list[str]]:
    """Return the file names that are used twice, and apart from them the twins.

    Twins are a command and the one file that does its work: `cli/doctor.py` and `hub/doctor.py`.
    """
    rooms: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        if path.name not in EVERYWHERE:
            rooms[path.name].append(path.parent.name)
    repeated = sorted(name for name, found in rooms.items() if len(found) > 1)
    twins = [name for name in repeated if len(rooms[name]) == 2 and "cli" in rooms[name]]
    return [name for name in repeated if name not in twins], twins


def main() -> None:
    """Measure and print."""
    paths = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
    trees = {module_name(path): ast.parse(path.read_text()) for path in paths}
    lines = {module_name(path): len(path.read_text().splitlines()) for path in paths}
    modules = set(trees)
    importers = defaultdict(set)
    for name, tree in trees.items():
        for imported in imports_of(tree, modules) - {name}:
            importers[imported].add(name)
    files = [module_name(path) for path in paths if path.name not in EVERYWHERE]
    lonely = [name for name in files if lines[name] < SHORT and len(importers[name]) == 1]
    twice, twins = repeated_names(paths)
    graph = {name: top_level_imports(tree, modules) for name, tree in trees.items()}
    train = trees["hf_wbc.cli.train"]
    body = next(n for n in train.body if isinstance(n, ast.FunctionDef) and n.name == "train")
    needed = {name for name in imports_of(body, modules) if not name.startswith("hf_wbc.hub")}
    trained = closure({"hf_wbc.cli.main", "hf_wbc.cli.train", *needed}, graph)
    functions = [
        (node.end_lineno - node.lineno + 1, f"{name}.{node.name}")
        for name, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno
    ]
    long = [name for name, num in lines.items() if num > LONG]
    help_wall, bare_wall = help_seconds()
    rows = [
        ("source files", len(paths), ""),
        ("median lines", median(lines.values()), ""),
        (f"files over {LONG} lines", len(long), ", ".join(long)),
        (f"one importer and under {SHORT} lines", len(lonely), ", ".join(sorted(lonely))),
        ("file names used twice", len(twice), ", ".join(twice)),
        ("twins of a command", len(twins), ", ".join(twins)),
        ("files in the import closure of hf-wbc train", len(trained), "without --push-to"),
        ("longest function, lines", *max(functions)),
        ("hf-wbc --help, s", round(help_wall, 2), f"python -c pass: {bare_wall:.2f}"),
    ]
    print("| what | value | which |\n|---|--:|---|")
    for what, value, which in rows:
        print(f"| {what} | {value} | {which} |")


if __name__ == "__main__":
    main()
