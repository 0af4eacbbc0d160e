"""Untrusted text is harmless in spreadsheets, Markdown pages, and error messages."""

import ast
import csv
import io
from pathlib import Path

import pytest

from hf_wbc.comparison.document import Section, Table
from hf_wbc.comparison.export import markdown
from hf_wbc.escape import markdown_text, print_plain, public_message, write_csv

ROOT = Path(__file__).resolve().parents[1]
NAMES = (
    "=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "\uff1dcmd", "=HYPERLINK(1)"
)  # fmt: skip


def cells(value: object) -> list[list[str]]:
    text = io.StringIO()
    write_csv(text, ["name", "score"], [[value, -0.5]])
    return list(csv.reader(io.StringIO(text.getvalue())))


@pytest.mark.parametrize("name", NAMES)
def test_csv_cells_contain_no_formulas_or_control_characters(name: str) -> None:
    (_, (cell, score)) = cells(name)
    assert cell.startswith("'") and score == "-0.5"
    assert cell.isprintable()


@pytest.mark.parametrize("value", ["-0.5", "cell 1.png", "", None, 3, True, "=", "細胞.png"])
def test_numbers_and_plain_text_are_unchanged(value: object) -> None:
    (_, (cell, _)) = cells(value)
    assert cell == ("'=" if value == "=" else "" if value is None else str(value))


def test_only_escape_module_writes_csv() -> None:
    for path in (ROOT / "hf_wbc").rglob("*.py"):
        calls = {ast.unparse(each) for each in ast.walk(ast.parse(path.read_text()))
                 if isinstance(each, ast.Attribute)}  # fmt: skip
        is_writer = calls & {"csv.writer", "csv.DictWriter"}
        assert not is_writer or path.name == "escape.py", path


@pytest.mark.parametrize(
    "text",
    ["<script>", "[a](http://b)", "![a](b)", "a|b", "*b*", "a\x1b[31mb\u202e", "[a]: http://b"],
)
def test_names_cannot_format_a_markdown_page(text: str) -> None:
    table = Table(("run", "F1"), ((text, "[0.1, 0.2]"),), num_words=1)
    page = markdown([Section(text, 2, (text,), table)])
    assert "[0.1, 0.2]" in page and "\x1b" not in page and "\u202e" not in page
    for sign in ("<", "*", "|b"):
        assert page.count(sign) == page.count("\\" + sign)
    assert "](" not in page and "]:" not in page


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("/srv/hf_wbc/runs/a1/model/config.json is damaged", "config.json is damaged"),
        ("cannot identify <_io.BytesIO object at 0x7f3a5c0e1d60>", "cannot identify a BytesIO"),
        ("at 0x7f3a5c0e1d60", "at it"),
        ("C:\\data\\patients\\Doe.png: empty", "Doe.png: empty"),
        ("cell.png: 16 bits per channel", "cell.png: 16 bits per channel"),
        ("F1 and/or accuracy, 3/4, org/name", "F1 and/or accuracy, 3/4, org/name"),
        ("see https://huggingface.co/org/name", "see https://huggingface.co/org/name"),
        ("a\nTraceback\x1b[31m", "a Traceback\ufffd[31m"),
    ],
)
def test_public_message_hides_server_paths_and_addresses(said: str, shown: str) -> None:
    assert public_message(ValueError(said)) == shown


def test_markdown_code_spans_are_kept() -> None:
    assert markdown_text("run `hf-wbc compare`") == "run `hf-wbc compare`"


def test_every_command_prints_names_without_control_characters() -> None:
    """What is printed may hold a name from a file, so `print` and `input` take constants only."""
    for path in [*(ROOT / "hf_wbc/cli").glob("*.py"), *(ROOT / "hf_wbc/study").glob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
                is_safe = all(
                    isinstance(each, ast.Constant) or ast.unparse(each).startswith("plain_lines(")
                    for each in call.args
                )
                assert is_safe or call.func.id not in ("print", "input"), f"{path}: {call.lineno}"


def test_printed_text_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_plain("a\x1b[31mb\u202e", ValueError("c\td\n\x9be"), sep="|", end="\x07\n")
    assert capsys.readouterr().out == "a\ufffd[31mb\ufffd|c\td\n\ufffde\x07\n"
