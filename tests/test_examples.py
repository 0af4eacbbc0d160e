"""What README and docstrings show works: commands are understood, Python runs."""

import doctest
import functools
import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tyro

from hf_wbc.cli.main import COMMANDS, STYLE, load_command

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
WITH_EXAMPLES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for folder in ("hf_wbc", "dataset_scripts")
    for path in (ROOT / folder).rglob("*.py")
    if ">>>" in path.read_text()
)


def blocks(language: str) -> list[str]:
    """README's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def command_lines() -> Iterator[list[str]]:
    """Words of every `hf-wbc` and `train.py` line of README, without what starts them."""
    for block in blocks("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if "train.py" in words:
                yield ["train", *words[words.index("train.py") + 1 :]]
            elif "hf-wbc" in words:
                yield words[words.index("hf-wbc") + 1 :]


def unrun(command: Callable[..., Any]) -> Callable[..., None]:
    """A function of the same arguments that does nothing."""

    @functools.wraps(command)
    def nothing(*_: object, **__: object) -> None:
        pass

    return nothing


@pytest.mark.parametrize("words", [*command_lines()], ids=" ".join)
def test_a_command_of_the_readme_is_understood(words: list[str]) -> None:
    name, *arguments = words
    assert name in COMMANDS
    tyro.cli(unrun(load_command(name)), args=arguments, config=STYLE)


def test_every_command_is_in_the_readme() -> None:
    assert {words[0] for words in command_lines()} == set(COMMANDS)


def test_the_python_of_the_readme_runs(
    make_domain: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_domain(tmp_path / "build" / "acevedo_20", name="acevedo_20")
    monkeypatch.chdir(tmp_path)
    examples = blocks("python")
    assert examples
    for example in examples:
        exec(compile(example, "README.md", "exec"), {})


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_docstring_hold(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted
    assert not results.failed
