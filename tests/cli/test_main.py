"""`hf-wbc` finds its commands quickly and exits as a command-line program should."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hf_wbc.cli import main as cli

HF_WBC = str(Path(sys.executable).with_name("hf-wbc"))


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"]])
def test_help_loads_no_heavy_library(arguments: list[str]) -> None:
    """This keeps it under half a second."""
    code = (
        "import sys; from hf_wbc.cli.main import describe, main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit: pass\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "numpy", "datasets", "transformers", "pyarrow", "sklearn", "matplotlib"}
    assert not heavy & set(done.stderr.split())
    assert "usage: hf-wbc" in done.stdout


@pytest.mark.parametrize("buffering", ["", "1"])
def test_closed_output_pipe_ends_program_quietly(buffering: str) -> None:
    end, start = os.pipe()
    os.close(end)
    done = subprocess.run(
        [HF_WBC, "train", "--help"],
        stdout=start,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": buffering},
    )
    os.close(start)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_are_no_error_and_children_inherit_them(tmp_path: Path, closed: str) -> None:
    code = (
        "import subprocess, sys; from hf_wbc.cli import main\n"
        "def command():\n"
        " print('said'); print('said', file=sys.stderr); sys.stdin.isatty()\n"
        " wrong = 'import os; [os.fstat(each) for each in (0, 1, 2)]'\n"
        " with open('out', 'w') as out: subprocess.run([sys.executable, '-c', wrong], check=True)\n"
        " sys.argv = ['hf-wbc', '--help']\n"
        "main.open_closed_streams(); command(); main.run_program()"
    )
    words = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code]
    assert subprocess.run(words, cwd=tmp_path, stdout=subprocess.DEVNULL).returncode == 0
    assert (tmp_path / "out").read_bytes() == b""


@pytest.mark.slow
@pytest.mark.ci
def test_worker_processes_import_nothing_from_the_current_folder(tmp_path: Path) -> None:
    script, strange = tmp_path / "run.py", tmp_path / "strange"
    script.write_text(
        "from multiprocessing import get_context; from hf_wbc.cli import main as cli\n"
        "from hf_wbc.data.decode_worker import run_limited\n"
        "def command():\n"
        " process = get_context('spawn').Process(target=abs, args=(1,))\n"
        " process.start(); process.join()\n"
        " return process.exitcode + run_limited(abs, -1) - 1\n"
        "if __name__ == '__main__': cli.main = command; cli.run_program()"
    )
    strange.mkdir()
    for name in ("hf_wbc", "multiprocessing", "numpy"):
        (strange / f"{name}.py").write_text("open('executed', 'w').close()")
    done = subprocess.run([sys.executable, script], cwd=strange)
    assert not (strange / "executed").exists() and done.returncode == 0


def test_unrelated_broken_pipe_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fails_with(monkeypatch, BrokenPipeError(errno.EPIPE, "Broken pipe")) == 1
    assert capfd.readouterr().err == "hf-wbc: Broken pipe\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("place", [(), ("runs/0/record.json",)])
def test_full_disk_has_remedy_even_without_file_name(number: int, place: tuple[str, ...]) -> None:
    assert "and repeat the command" in cli.describe(OSError(number, "full", *place))
    assert cli.describe(OSError(number, "full; choose another disk")).count(";") == 1


@pytest.mark.parametrize(
    "words",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "2048 requested and 512 written",
    ],
)
def test_full_disk_reported_as_text_has_a_remedy(words: str) -> None:
    assert "free some space" in cli.describe(OSError(f"m/model.safetensors: {words}"))
    assert "free" not in cli.describe(OSError("2 requested"))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_lack_of_memory_is_an_error_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    assert fails_with(monkeypatch, error) == 1
    said = capfd.readouterr().err
    assert "memory has run out" in said and "--batch-size" in said and said.count("\n") == 1


def test_other_faults_of_torch_are_not_called_lack_of_memory() -> None:
    assert not cli.is_out_of_memory(RuntimeError("size mismatch for head.weight"))


def test_full_disk_error_names_the_copy() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "from.png", None, "to.png")
    assert "to.png" in cli.describe(error) and "from.png" not in cli.describe(error)


def test_full_disk_error_names_file_and_remedy(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "runs/0/record.json")
    assert fails_with(monkeypatch, error) == 1
    said = capfd.readouterr().err
    assert "runs/0/record.json" in said and "free some space and repeat the command" in said


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fails_with(monkeypatch, KeyboardInterrupt()) == 130


def test_internal_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        fails_with(monkeypatch, ZeroDivisionError())


def fails_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """Return the exit status of `main` when a command raises `error`."""

    def command() -> None:
        raise error

    monkeypatch.setattr(cli, "load_command", lambda name: command)
    return cli.main(["doctor"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["nope"], "train, embed, study"),
        (["train"], "--sources"),
        (["train", "--sources", "x", "--stepz", "3"], "--steps"),
        (["train", "--sources", "x", "--steps", "0"], "steps is 0; it must be at least 1"),
        (["train", "--sources", "x", "--seed", "-1"], "seed is -1; it must not be negative"),
        (["train", "--sources", "x", "--mixed-precision", "int8"], "bf16"),
        (["evaluate", "only-a-model"], "data"),
    ],
)
def test_unparsable_arguments_exit_with_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", "--no\x1b[31msuch"],
        ["label", "model", "cells", "--budget", "5\x1b]0;title\x07"],
        ["evaluate", "model\x9b2J", "data", "--splits", "test\x1b[1A"],
        ["compare\x1b[31m"],
    ],
)
def test_usage_errors_repeat_no_control_characters(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.err and not any(sign in said.out + said.err for sign in "\x1b\x07\x9b")


def test_argument_with_control_characters_reaches_the_command() -> None:
    """A file may have such a name; output of the command is not held back."""

    def command(path: Path, *, num: int = 1) -> tuple[Path, int]:
        return path, num

    found = cli.parse("compare", command, ["--path", "a\x1b[1Ab", "--num", "3"])
    assert found == (Path("a\x1b[1Ab"), 3)
