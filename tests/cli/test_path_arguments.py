"""Every command refuses a place that it cannot write before it begins its work."""

import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from hf_wbc.cli.main import COMMANDS, build_command, main
from hf_wbc.cli.path_arguments import marked_paths

READ = {
    "accept": {"labels"},
    "attributes": {"table", "second"},
    "compare": {"runs", "annotations"},
    "demo": {"runs", "limits"},
    "doctor": {"work"},
    "drift": {"baseline"},
    "find": {"fields", "evaluate"},
    "label": {"add", "mapping"},
    "patients": {"labels"},
    "prepare": {"archive", "labels", "mapping"},
    "publish": {"mapping"},
    "stress": {"baseline"},
    "submit": {"patients"},
}
"""Parameters of commands that are read, and not written."""
WRITING = [
    "accept MODEL CELLS --labels labels.csv --out",
    "attributes MODEL DATA --table table.csv --out",
    "audit DATA --out",
    "audit DATA --cache",
    "combine A B --sources DATA --out",
    "compare RUNS --out",
    "demo --labels",
    "drift MODEL CELLS --out",
    "embed MODEL DATA --cache",
    "evaluate MODEL DATA --out",
    "find FIELDS --out",
    "label MODEL CELLS --out",
    "label MODEL CELLS --save",
    "label MODEL CELLS --export",
    "label MODEL CELLS --simulate --draws",
    "label MODEL CELLS --simulate --figure",
    "patients MODEL DATA --labels labels.csv --out",
    "predict MODEL CELLS --um-per-px .1 --out",
    "prepare acevedo_20 --archive ARCHIVE --out",
    "quickstart --out",
    "stress MODEL DATA --out",
    "study toy --out",
    "submit org/model --to org/data --out",
    "toy --out",
    "train --sources DATA --output-dir",
    "train --sources DATA --cache",
]
"""Commands with inputs that do not exist, up to the value of a flag for a place."""


def holds_path(hint: Any) -> bool:
    """Return whether a type has a path in it."""
    return hint is Path or any(map(holds_path, getattr(hint, "__args__", ())))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_path_is_known_to_be_read_or_written(name: str) -> None:
    command, _ = build_command(name, [])
    for parameter in signature(command).parameters.values():
        if not holds_path(parameter.annotation) or parameter.name in READ.get(name, ()):
            continue
        paths = list(marked_paths(parameter.annotation, Path("x")))
        assert paths, f"hf-wbc {name}: mark {parameter.name} as an output, or add it to READ"


@pytest.fixture
def refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Return what is said of a command and a place; nothing may be read or written before."""
    monkeypatch.chdir(tmp_path)

    def run(command: str, place: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main([*command.split(), place]) == 1
        assert sorted(tmp_path.rglob("*")) == before
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize("command", WRITING)
def test_place_within_a_file_is_refused_first(
    refused: Callable[..., str], command: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    said = refused(command, str(tmp_path / "file" / "a" / "b.csv"))
    assert f"Not a directory: {tmp_path / 'file'}" in said


@pytest.mark.parametrize(
    "command", ["drift M C --out", "find F --out", "train --sources D --cache"]
)
def test_impossible_places_are_refused_with_their_reason(
    refused: Callable[..., str], command: str, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("link")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert "File name too long" in refused(command, "a" * 300)
    assert "link" in refused(command, "link/x")
    assert "dangling" in refused(command, "dangling/x")
    if sys.platform == "linux":
        assert "/proc" in refused(command, "/proc/x")


def test_kind_of_what_exists_must_fit(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert "Is a directory" in refused("drift M C --out", "folder")
    assert "Not a directory" in refused("stress M D --out", "file")


def test_default_places_that_a_call_may_leave_alone_are_not_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    assert main(["study", "nope", "--dry-run"]) == 1
    assert "nope" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["label M C --save", "combine A B --sources D --out"])
def test_folder_of_something_else_is_not_replaced(
    refused: Callable[..., str], command: str, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "only copy.jpg").touch()
    assert "choose another folder" in refused(command, "photos")
    assert (tmp_path / "photos" / "only copy.jpg").exists()
