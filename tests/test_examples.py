"""Examples in the README, guides, and docstrings work: commands parse and Python runs."""

import doctest
import functools
import importlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hf_wbc
from hf_wbc.cli.benchmark_table import measure
from hf_wbc.cli.command_help import flags_of
from hf_wbc.cli.laboratory_table import add
from hf_wbc.cli.main import COMMANDS, build_command, parse
from hf_wbc.cli.shipped_model import make_shipped_model

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    name: (ROOT / name).read_text()
    for name in (
        "README.md",
        "docs/researchers.md",
        "docs/engineers.md",
        "docs/hematologists.md",
        "docs/labeling.md",
        "docs/laboratories.md",
        "docs/stress.md",
    )
}
PYTHON_PAGE = (ROOT / "docs" / "python.md").read_text()
WITH_EXAMPLES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for folder in ("hf_wbc", "dataset_scripts")
    for path in (ROOT / folder).rglob("*.py")
    if ">>>" in path.read_text()
)


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a Markdown page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def command_lines() -> Iterator[list[str]]:
    """Return the arguments of every `hf-wbc` and `train.py` line of the pages."""
    for text in PAGES.values():
        for block in blocks(text, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if "train.py" in words:
                    yield ["train", *words[words.index("train.py") + 1 :]]
                elif "hf-wbc" in words:
                    yield words[words.index("hf-wbc") + 1 :]


def without_effect(command: Callable[..., Any]) -> Callable[..., None]:
    """Return a function with the same signature that does nothing."""

    @functools.wraps(command)
    def nothing(*_: object, **__: object) -> None:
        pass

    return nothing


@pytest.mark.parametrize("words", [*command_lines()], ids=" ".join)
def test_guide_command_parses(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    name, *arguments = words
    assert name in COMMANDS
    if "--config" in arguments:  # the defaults of a run that somebody published on the Hub
        published = hf_wbc.TrainConfig(sources=("a",))
        monkeypatch.setattr("hf_wbc.hub.publish_model.published_config", lambda ref: published)
    command, arguments = build_command(name, arguments)
    parse(name, without_effect(command), arguments)


def test_every_command_is_in_the_guides() -> None:
    assert {words[0] for words in command_lines()} == set(COMMANDS)


@pytest.mark.slow
@pytest.mark.ci
def test_jobs_recipe_is_accepted_and_parses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from click.testing import CliRunner
    from huggingface_hub.cli.hf import app

    monkeypatch.setenv("HF_TOKEN", "hf_test")
    (block,) = [each for each in blocks(PAGES["docs/engineers.md"], "bash") if "hf jobs" in each]
    hf, jobs, run, *words = shlex.split(block.replace("\\\n", " "))
    assert (hf, jobs, run) == ("hf", "jobs", "run")
    found = CliRunner().invoke(app, [jobs, run, "--dry-run", *words])
    assert found.exit_code == 0, found.output
    script = words[-1].rpartition("&&")[2].split()
    assert script[0] == "hf-wbc"
    command, arguments = build_command(script[1], script[2:])
    parse(script[1], without_effect(command), arguments)


FOREIGN = {
    "--array", "--check", "--cpu", "--flavor", "--force", "--index-url", "--key-file",
    "--local-dir",
    "--log-file", "--main_process_port", "--multi_gpu", "--noheader", "--nproc-per-node",
    "--num_processes", "--pid-file", "--project", "--repo-type", "--sdk", "--secrets",
    "--seed-file", "--socket", "--space-id", "--standalone", "--strict", "--timeout",
    "--tyro-print-completion", "--user", "--wrap", "--no-", "--tyro-",
}  # fmt: skip
"""Flags of other programs that texts and code name, and prefixes."""


def test_every_mentioned_flag_exists() -> None:
    known = {"--help", "--help-all"}
    commands = [build_command(name, [])[0] for name in COMMANDS]
    for name in COMMANDS:
        known |= set(getattr(importlib.import_module(f"hf_wbc.cli.{name}"), "RENAMED_FLAGS", {}))
    for command in (*commands, make_shipped_model, add, measure):
        for flag in flags_of(command):
            known |= {f"--{no}{flag.name.replace('_', '-')}" for no in ("", "no-")}
    paths = [path for path in ROOT.glob("*.md") if path.name != "CHANGELOG.md"]
    for folder in ("docs", "model_cards", "spaces", "hf_wbc", "dataset_scripts"):
        paths += [p for p in (ROOT / folder).rglob("*") if p.suffix in (".md", ".py")]
    unknown = {
        (str(path.relative_to(ROOT)), flag)
        for path in paths
        for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", path.read_text())
        if flag not in known | FOREIGN
    }
    assert not unknown


@pytest.fixture
def workplace(
    make_domain: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Create a folder with the files that the guides' examples read."""
    make_domain(tmp_path / "build" / "acevedo_20", name="acevedo_20")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_python_of_the_guides_runs(page: str, workplace: Path) -> None:
    for example in blocks(PAGES[page], "python"):
        exec(compile(example, page, "exec"), {})


def test_python_page_runs(workplace: Path, tiny_model: str) -> None:
    shutil.copytree(tiny_model, workplace / "models" / "tiny")
    examples = blocks(PYTHON_PAGE, "python")
    assert len(examples) >= 6
    for example in examples:
        exec(compile(example, "docs/python.md", "exec"), {})


@pytest.mark.parametrize("name", hf_wbc.__all__)
def test_public_name_is_documented(name: str) -> None:
    value = getattr(hf_wbc, name)
    assert value.__doc__ if not isinstance(value, tuple) else value
    assert f"hf_wbc.{name}" in PYTHON_PAGE


def test_importing_the_package_is_light() -> None:
    code = "import sys, hf_wbc; print([n for n in ('torch', 'numpy', 'PIL') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstring_examples_pass(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted
    assert not results.failed
