"""Help fits one screen, shows an example that parses, and names the flags that tyro accepts."""

import importlib
import inspect
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from hf_wbc.cli.command_help import HELP_ALL, Flag, command_help, flags_of
from hf_wbc.cli.main import COMMANDS, GROUPS, build_command, main, parse

SCREEN = 40
SUMMARIES = {name: line for group in GROUPS.values() for name, line in group.items()}


def function_of(name: str) -> Callable[..., Any]:
    command, _ = build_command(name, [])
    return command


def common_of(name: str) -> set[str] | None:
    return getattr(importlib.import_module(f"hf_wbc.cli.{name}"), "COMMON", None)


def help_of(name: str, width: int, monkeypatch: pytest.MonkeyPatch, *, full: bool = False) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    return command_help(name, function_of(name), None if full else common_of(name))


@pytest.mark.parametrize("name", COMMANDS)
def test_common_flags_fit_one_screen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = help_of(name, 100, monkeypatch).splitlines()
    assert len(lines) <= SCREEN, f"name the flags that matter most in COMMON of cli/{name}.py"


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_is_wider_than_terminal(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for full in (False, True):
        for line in help_of(name, width, monkeypatch, full=full).splitlines():
            assert len(line) <= width, line


@pytest.mark.parametrize("name", COMMANDS)
def test_example_parses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = help_of(name, 80, monkeypatch).partition("Example:\n")[2].partition("\n\n")[0]
    program, command, *arguments = shlex.split(text.replace("\\\n", " "))
    assert (program, command) == ("hf-wbc", name)
    function = function_of(name)

    def nothing(*_: object, **__: object) -> None:
        """Do nothing."""

    nothing.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    nothing.__annotations__ = function.__annotations__
    parse(name, nothing, arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_overview_shows_each_commands_summary(name: str) -> None:
    assert SUMMARIES[name] == (function_of(name).__doc__ or "").partition("\n")[0]
    assert len(f"  {name:<12}{SUMMARIES[name]}") <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_help_all_shows_what_tyro_accepts(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    function = function_of(name)
    with pytest.raises(SystemExit):
        parse(name, function, ["--help"])
    words = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", capsys.readouterr().out))
    shown = list(flags_of(function))
    assert all(flag.text for flag in shown), [flag.name for flag in shown if not flag.text]
    named = {f"--{flag.name.replace('_', '-')}" for flag in shown if not flag.positional}
    assert named <= words
    accepted = {word for word in words if not word.startswith("--no-")} - {"--help"}
    mentioned = set(re.findall(r"--[a-z][\w-]*", " ".join(_texts(function, shown))))
    assert accepted - mentioned <= named


def _texts(function: Callable[..., Any], flags: list[Flag]) -> list[str]:
    return [function.__doc__ or "", *(flag.text for flag in flags)]


@pytest.mark.parametrize("name", [name for name in COMMANDS if common_of(name)])
def test_common_lists_only_flags_of_the_command(name: str) -> None:
    assert set(common_of(name) or ()) <= {flag.name for flag in flags_of(function_of(name))}


def test_required_flags_are_always_shown() -> None:
    def command(out: str, other: int = 3) -> None:
        """Write.

        Args:
            out: Where to.
            other: How many.
        """

    text = command_help("write", command, ())
    assert "usage: hf-wbc write --out STR [options]" in text
    assert "--other" not in text and f"1 more: hf-wbc write {HELP_ALL}" in text
    assert "How many. (default: 3)" in command_help("write", command)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["-h"], ["train", "-h"], ["predict", "x", HELP_ALL]]
)
def test_help_flag_works_in_any_position(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("usage: hf-wbc")


def test_help_shows_defaults_of_published_run(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hf_wbc.config import TrainConfig

    published = TrainConfig(sources=("a",), steps=77)
    monkeypatch.setattr("hf_wbc.hub.publish_model.published_config", lambda ref: published)
    assert main(["train", "--config", "org/name", "--help"]) == 0
    assert "Optimizer steps. (default: 77)" in capsys.readouterr().out


def test_missing_command_fails_and_lists_commands(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert all(name in said for name in COMMANDS)
