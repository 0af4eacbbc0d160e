"""`hf-wbc methods` lists every method and the options of each."""

import dataclasses
import json

import pytest

from hf_wbc.adaptation import load_method, method_names
from hf_wbc.cli.command_help import field_texts
from hf_wbc.cli.main import main


@pytest.mark.parametrize("format", ["table", "markdown", "json"])
def test_every_method_is_listed(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--format", format]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in method_names())


def test_list_fits_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    entries = [line.split()[0] for line in lines if line[:2] == "  " and line[2] != " "]
    assert sorted(entries) == list(method_names())


def test_requirements_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["methods", "--format", "json"])
    needs = {row["method"]: row["needs"] for row in json.loads(capsys.readouterr().out)}
    assert needs["source_only"] == []
    assert needs["fixmatch"] == ["target", "two views"]
    assert needs["shot"] == ["target", "index", "second phase"]
    assert needs["irm"] == ["2 sources"]
    assert needs["target_stats"] == ["target", "images"]


@pytest.mark.parametrize("name", method_names())
def test_every_option_is_documented(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = load_method(name).Options
    documented = field_texts(options)
    assert all(documented.get(field.name) for field in dataclasses.fields(options))
    assert main(["methods", name]) == 0
    said = capsys.readouterr().out
    assert all(f"option      {field.name} = " in said for field in dataclasses.fields(options))
    prose = [line for line in said.splitlines() if not line.startswith((" ", "- "))]
    assert max(map(len, prose)) <= 80


def test_unknown_method_suggests_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "dan_n"]) == 1
    assert "did you mean" in capsys.readouterr().err
