"""`hf-wbc COMMAND ...`: find the command, parse its arguments, and report errors."""

import errno
import importlib
import io
import os
import re
import select
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial, wraps
from pathlib import Path
from typing import Any, NoReturn

from hf_wbc.cli.interrupts import CtrlC, end_process
from hf_wbc.cli.path_arguments import check_outputs
from hf_wbc.data.archive_names import printable_name
from hf_wbc.data.cache_folders import use_writable_caches
from hf_wbc.escape import plain_lines, print_plain
from hf_wbc.hub.environment import keep_within

DESCRIPTION = "White blood cell classification that survives the change of laboratory."
GROUPS = {
    "Try everything on drawn cells": {
        "quickstart": "See in a few minutes how a classifier fails in another laboratory.",
        "toy": "Draw toy archives of three laboratories.",
    },
    "Prepare data": {
        "prepare": "Build a dataset folder from an archive.",
        "audit": "Check datasets for duplicates, wrong labels and confounders.",
    },
    "Train and study": {
        "methods": "List the training methods, or show one in detail.",
        "train": "Train a classifier on labeled sources; score it on every domain.",
        "embed": "Extract the features of datasets, for training on features.",
        "study": "Execute a grid of runs; repeat the command to resume.",
        "attributes": "Train a head for morphology, such as nucleus shape and granules.",
        "patients": "Predict a label of each patient from the features of the cells.",
        "compare": "Compare runs: scores, significance tests and cost.",
    },
    "Use a model": {
        "find": "Find the white cells of fields of view and whole slides.",
        "predict": "Predict the class of every image in a folder or dataset.",
        "evaluate": "Score a model on a labeled dataset.",
        "combine": "Average trained models into one: a soup or an ensemble.",
        "stress": "Score a model on noisy, blurred, ill-lit and ill-cropped cells.",
        "reference": "Build the reference set that the demo shows neighbors from.",
        "label": "Label a few cells of a new laboratory, and adapt a model to it.",
        "accept": "Report whether a model may be used in a laboratory.",
        "drift": "Compare later cells of a laboratory with those at acceptance.",
        "demo": "Start a web page that classifies the cells in uploaded images.",
    },
    "Publish, and check the machine": {
        "publish": "Publish a dataset, model, metric, Space, study or leaderboard.",
        "submit": "Score a model on a benchmark dataset, and submit the score.",
        "doctor": "Check versions, disk, memory, CPU, GPU, and access to the Hub.",
    },
}
"""Commands by purpose, each with the first line of its docstring; a test compares them."""
COMMANDS = tuple(name for group in GROUPS.values() for name in group)
REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EEXIST: "something else is there: choose another place",
    errno.EISDIR: "a folder is there: name a file",
    errno.ENOTDIR: "a file is where a folder should be: choose another place",
    errno.EACCES: "choose a place that you may read and write",
    errno.EROFS: "choose a place that you may write to",
    errno.ENOSPC: "free some space and repeat the command",
    errno.EDQUOT: "free some of your quota and repeat the command",
    errno.EFBIG: "choose a place on a disk that takes large files",
    errno.EIO: "check the disk, and repeat the command",
    errno.ELOOP: "correct the links",
    errno.EMFILE: "raise the limit with `ulimit -n`, and repeat the command",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ESTALE: "another machine has replaced it: repeat the command",
}
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")
"""What numpy says of a full disk."""
_OUT_OF_MEMORY = re.compile("out of memory|(can't|not) (re)?allocate|not enough memory|bad_alloc")
"""What torch says when memory has run out."""
_SHOW_WARNING = warnings.showwarning
OUT_OF_MEMORY = (
    "the memory has run out; close other programs, or choose smaller batches (--batch-size) or "
    "fewer images, and repeat the command"
)
TYRO_FLAG = "--tyro-"


def load_command(name: str) -> Callable[..., Any]:
    """Return the function of a command, from the module of the same name."""
    command: Callable[..., Any] = getattr(importlib.import_module(f"hf_wbc.cli.{name}"), name)
    return command


def build_command(name: str, arguments: Sequence[str]) -> tuple[Callable[..., Any], list[str]]:
    """Return a command's function, and its arguments as tyro parses them.

    A command's module can define `RENAMED_FLAGS`, which maps old flags to new ones,
    `build_command(arguments)`, which builds a function whose flags depend on the arguments, and
    `COMMON`, the names of the flags that `--help` shows (`--help-all` shows every one).
    """
    module = importlib.import_module(f"hf_wbc.cli.{name}")
    arguments = current_flags(arguments, getattr(module, "RENAMED_FLAGS", {}))
    build = getattr(module, "build_command", None)
    command: Callable[..., Any] = build(arguments) if build else load_command(name)
    return command, arguments


def current_flags(arguments: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
    """Replace renamed flags in the arguments; each one is reported in one line on stderr."""
    found = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        flag = flag.replace("_", "-") if flag.startswith("--") else flag
        off = "no-" if flag.startswith("--no-") else ""
        if new := renamed.get(f"--{flag[2 + len(off) :]}" if flag.startswith("--") else ""):
            new = f"--{off}{new[2:]}"
            print_plain(f"hf-wbc: {flag} is now {new}", file=sys.stderr)
            argument = new + equals + value
        found.append(argument)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Args:
        arguments: Command-line arguments; None uses those of the process.

    Returns:
        0 on success, 1 for errors that the user can fix, 130 on Ctrl-C, 141 if the reader of a pipe
        has exited. Commands such as `audit` may return another status; if the arguments cannot be
        parsed, the program exits with 2.
    """
    with CtrlC() as ctrl_c:
        try:
            print_any_text()
            keep_within(os.environ)
            if notice := use_writable_caches(os.environ):
                print_plain(f"hf-wbc: {notice}", file=sys.stderr)
            warnings.showwarning = _show_warning
            arguments = sys.argv[1:] if arguments is None else arguments
            require_text([*arguments, str(Path.cwd())])
            return parse_and_run(arguments)
        except (Exception, KeyboardInterrupt) as error:
            if ctrl_c.num_presses or isinstance(error, KeyboardInterrupt):
                print("hf-wbc: interrupted", file=sys.stderr)
                return 130
            if is_out_of_memory(error):
                print_plain(f"hf-wbc: {OUT_OF_MEMORY}", file=sys.stderr)
                return 1
            if not isinstance(error, ValueError | OSError):
                raise
            if isinstance(error, BrokenPipeError) and reader_has_left():
                return 141
            print_plain(f"hf-wbc: {describe(error)}", file=sys.stderr)
            return 1


def run_program() -> NoReturn:
    """Run the command of this process's arguments, and end the process with its status."""
    open_closed_streams()
    # Python would import modules from the current folder into our worker processes.
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        status = main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:  # pressed again
        status = 130
    except Exception:
        sys.excepthook(*sys.exc_info())
        status = 1
    end_process(status)


def open_closed_streams() -> None:
    """Open those of stdin, stdout and stderr that the caller has closed, as some daemons do.

    Otherwise the next file that is opened would take their place, and get what libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            assert opened == number
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: SIM115, PTH123


def print_any_text() -> None:
    """Print what the terminal's encoding lacks as escapes, instead of failing.

    Concerns terminals that know ASCII only, and file names that are not UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def require_text(paths: Sequence[str]) -> None:
    """Raise ValueError for a path that is not UTF-8, which Parquet and safetensors cannot open."""
    for path in paths:
        if any("\ud800" <= letter <= "\udfff" for letter in path):
            raise ValueError(
                f"{printable_name(path)} is not text in UTF-8; rename that file or folder"
            )


def parse_and_run(arguments: Sequence[str]) -> int:
    """Print help, or parse the arguments and run the command; flush stdout.

    Returns:
        The command's status, or 0 if it returns none.
    """
    name = arguments[0] if arguments else ""
    try:
        if name in COMMANDS:
            return _run(name, arguments[1:])
        if name.startswith(TYRO_FLAG):
            return _complete(arguments)
        return _explain(name)
    finally:
        sys.stdout.flush()


def parse(name: str, command: Callable[..., Any], arguments: Sequence[str]) -> Any:
    """Call a command with parsed arguments; SystemExit(2) if they cannot be parsed."""
    import tyro

    @wraps(command)
    def checked(*values: Any, **named: Any) -> Any:
        check_outputs(command, values, named)
        return command(*values, **named)

    style = (tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff)
    cli: Any = partial(tyro.cli, prog=f"hf-wbc {name}", args=arguments, config=style)
    if all(plain_lines(each) == each for each in arguments):
        return cli(checked)

    @wraps(command)
    def deferred(*values: Any, **named: Any) -> Callable[[], Any]:
        return partial(checked, *values, **named)

    said = io.StringIO()  # tyro repeats arguments, which a terminal must not obey
    try:
        with redirect_stdout(said), redirect_stderr(said):
            call = cli(deferred)
    except SystemExit:
        print_plain(said.getvalue(), end="", file=sys.stderr)
        raise
    return call()


def _run(name: str, arguments: Sequence[str]) -> int:
    """Run a command, or print its help."""
    from hf_wbc.cli.command_help import HELP, HELP_ALL, command_help

    command, arguments = build_command(name, arguments)
    if HELP_ALL in arguments or HELP & set(arguments):
        module = importlib.import_module(f"hf_wbc.cli.{name}")
        common = None if HELP_ALL in arguments else getattr(module, "COMMON", None)
        print_plain(command_help(name, command, common))
        return 0
    status = parse(name, command, arguments)
    return status if isinstance(status, int) else 0


def _explain(name: str) -> int:
    """Print the commands; SystemExit(2) if `name` is neither a command nor a flag for help."""
    from hf_wbc.cli.command_help import HELP, HELP_ALL, overview
    from hf_wbc.text import did_you_mean

    if name in HELP or name == HELP_ALL:
        print_plain(overview(DESCRIPTION, GROUPS))
        return 0
    if name:
        print_plain(
            f"hf-wbc: unknown command {name!r}; {did_you_mean(name, COMMANDS)}", file=sys.stderr
        )
    else:
        print_plain(overview(DESCRIPTION, GROUPS), file=sys.stderr)
    raise SystemExit(2)


def _complete(arguments: Sequence[str]) -> int:
    """Print or write the completion script of a shell (`--tyro-print-completion bash`)."""
    import tyro

    commands = {name: load_command(name) for name in COMMANDS}
    tyro.extras.subcommand_cli_from_dict(commands, prog="hf-wbc", args=arguments)
    return 0


def _show_warning(
    message: Warning | str, category: type[Warning], *place: Any, **others: Any
) -> None:
    """Print a warning about a renamed field in one line, and all other warnings as Python does."""
    from hf_wbc.config import RenamedWarning

    if issubclass(category, RenamedWarning):
        print_plain(f"hf-wbc: {message}", file=sys.stderr)
    else:
        _SHOW_WARNING(plain_lines(str(message)), category, *place, **others)


def reader_has_left() -> bool:
    """Return whether the reader of our output has exited, as `head` does; drop remaining output.

    A shell reports status 141 for a program that ends this way.
    """
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory has run out, of the machine or the GPU; torch raises RuntimeError."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


def _code_in(message: str) -> int:
    """Return the code of a full disk if a library reports one in words only; else 0."""
    for code in (errno.ENOSPC, errno.EDQUOT):
        if os.strerror(code).lower() in message.lower() or f"os error {code}" in message:
            return code
    return errno.ENOSPC if _SHORT_WRITE.search(message) else 0


def describe(error: ValueError | OSError) -> str:
    """Return an error's message; system errors also name the file and a remedy."""
    if not isinstance(error, OSError):
        if "TORCH_LOGS" in str(error) and (logs := os.environ.get("TORCH_LOGS")):
            return f"TORCH_LOGS is {logs!r}, which torch does not know; correct or unset it"
        return str(error)
    message = error.strerror or str(error)
    if message.startswith("No usable temporary directory"):
        return "no folder for temporary files can be written; set TMPDIR to one"
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    place = (is_full and error.filename2) or error.filename  # of a copy, the second one is written
    if place:
        message += f": {place}"
    remedy = REMEDIES.get(error.errno or _code_in(message))
    return message if remedy is None or ";" in message else f"{message}; {remedy}"
