"""The Python files of the metric's Space: the package's own, with their imports made local.

`evaluate.load` copies a metric's file and the siblings that it imports, and the Space must work
without hf_wbc, so it holds copies, never edited by hand. After a change to one of `MODULES`:

    python -m hf_wbc.evaluation.space spaces/wbc_macro_f1
"""

import re
import sys
from pathlib import Path

MODULES = (
    "taxonomy",
    "evaluation/tally",
    "evaluation/metrics",
    "evaluation/intervals",
    "evaluation/wbc_macro_f1",
)


def space_files() -> dict[str, str]:
    """The text of each file by its name in the Space."""
    package = Path(__file__).parents[1]
    return {
        Path(module).name + ".py": localised((package / f"{module}.py").read_text())
        for module in MODULES
    }


def localised(text: str) -> str:
    """The text with `from hf_wbc.room.file import x` turned into `from .file import x`."""
    return re.sub(r"^from hf_wbc(?:\.\w+)*\.(\w+) import ", r"from .\1 import ", text, flags=re.M)


if __name__ == "__main__":
    for name, text in space_files().items():
        Path(sys.argv[1], name).write_text(text)
