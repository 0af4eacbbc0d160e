"""Text files are UTF-8, whatever the encoding of the machine."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROUND_TRIP = r"""
import sys
from pathlib import Path
from hf_wbc.records import RunFolder, read_json, write_json
folder = Path(sys.argv[1])
assert open(folder / "x", "w").encoding.lower() not in ("utf-8", "utf8"), "nothing is emulated"
write_json(folder / "a.json", {"name": "\u8840 \u00e9"})
run = RunFolder(folder)
run.append_history({"step": 1, "name": "\u8840"})
print(ascii([read_json(folder / "a.json"), run.rewind_history(1), run.read_history()]))
"""


def calls_without_encoding(tree: ast.AST) -> Iterator[ast.Call]:
    """Yield calls that open a text file in the encoding of the machine."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if "encoding" in given or None in given:
            continue
        is_function = isinstance(node.func, ast.Name)
        modes = [given["mode"]] if "mode" in given else node.args[int(is_function) :]
        mode = modes[0].value if modes and isinstance(modes[0], ast.Constant) else ""
        opens = name == "open" and isinstance(mode, str) and "b" not in mode
        reads = name in ("read_text", "write_text") and len(node.args) <= (name == "write_text")
        decodes = name in ("run", "Popen", "check_output") and "text" in given
        is_other = opens and modes and not isinstance(modes[0], ast.Constant)
        if reads or decodes or (opens and (is_function or modes or not node.args) and not is_other):
            yield node


def test_every_text_file_has_a_stated_encoding() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for folder in ("hf_wbc", "dataset_scripts")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for call in calls_without_encoding(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found


def test_records_are_identical_in_every_locale(tmp_path: Path) -> None:
    environment = {
        **os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", ROUND_TRIP, str(tmp_path)],
        env=environment, capture_output=True, encoding="utf-8",
    )  # fmt: skip
    row = "{'step': 1, 'name': '\\u8840'}"
    assert done.stdout == f"[{{'name': '\\u8840 \\xe9'}}, [{row}], [{row}]]\n", done.stderr
