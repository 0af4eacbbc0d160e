"""Untrusted names cannot control the terminal: control characters are shown, not executed."""

from pathlib import Path
from typing import Any

import pytest

from hf_wbc.cli.display import plain_console
from hf_wbc.cli.main import main
from hf_wbc.progress_lines import progress_lines

HOSTILE = "cell\x1b[1A\x1b[2K\u202egnp.\x07"


def is_harmless(text: str) -> bool:
    return not any(sign in text for sign in ("\x1b", "\u202e", "\x07")) and "cell" in text


def test_console_escapes_control_characters(capsys: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("image")
    table.add_row(HOSTILE)
    console = plain_console()
    console.print(table)
    console.print(Text(HOSTILE).append("\nsecond line"))
    out = capsys.readouterr().out
    assert is_harmless(out) and "\nsecond line" in out


def test_progress_escapes_control_characters(capsys: Any) -> None:
    with progress_lines() as lines:
        lines.report(HOSTILE, 1, 1)
    assert is_harmless(capsys.readouterr().err)


@pytest.mark.parametrize(
    "command", [["predict", "m", HOSTILE, "--out", "x"], ["compare", HOSTILE], ["audit", HOSTILE]]
)
def test_error_escapes_control_characters(
    command: list[str], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == 1
    assert "\x1b[1A" not in capsys.readouterr().err
