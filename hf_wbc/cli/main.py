"""`hf-wbc COMMAND ...`: finds the command's file, parses its arguments, and reports its errors."""

import errno
import importlib
import os
import select
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro

from hf_wbc.config import RenamedWarning
from hf_wbc.hub.environment import keep_within

COMMANDS = (
    "quickstart", "toy", "prepare", "audit", "methods", "train", "embed", "evaluate", "study",
    "compare", "predict", "reference", "demo", "publish", "doctor",
)  # fmt: skip
REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EEXIST: "something else is there: choose another place",
    errno.ENOTDIR: "a file is where a folder should be: choose another place",
    errno.EACCES: "choose a place that you may read and write",
    errno.EROFS: "choose a place that you may write to",
    errno.ENOSPC: "free some space and repeat the command",
}
_SHOW_WARNING = warnings.showwarning
HELP_ALL = "--help-all"
STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff)


def load_command(name: str) -> Callable[..., Any]:
    """A command's function; it lies in the file of its name."""
    command: Callable[..., Any] = getattr(importlib.import_module(f"hf_wbc.cli.{name}"), name)
    return command


def build_command(name: str, arguments: Sequence[str]) -> tuple[Callable[..., Any], list[str]]:
    """A command's function and arguments as tyro parses them.

    Two names in a command's file change them: `RENAMED_FLAGS` maps old flags to new ones, and
    `build_command(arguments)` builds a function whose flags depend on the arguments.
    """
    module = importlib.import_module(f"hf_wbc.cli.{name}")
    arguments = current_flags(arguments, getattr(module, "RENAMED_FLAGS", {}))
    build = getattr(module, "build_command", None)
    command: Callable[..., Any] = build(arguments) if build else load_command(name)
    return command, ["--help" if each == HELP_ALL else each for each in arguments]


def current_flags(arguments: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
    """The arguments with renamed flags replaced; each is reported in one line on stderr."""
    found = []
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        flag = flag.replace("_", "-") if flag.startswith("--") else flag
        off = "no-" if flag.startswith("--no-") else ""
        if new := renamed.get(f"--{flag[2 + len(off) :]}" if flag.startswith("--") else ""):
            new = f"--{off}{new[2:]}"
            print(f"hf-wbc: {flag} is now {new}", file=sys.stderr)
            argument = new + equals + value
        found.append(argument)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it succeeded, 1 when the user can mend what failed, 130 on Ctrl-C.

    A command may return another status, as `audit` does. Arguments that cannot be parsed end the
    program with 2.
    """
    try:
        keep_within(os.environ)
        warnings.showwarning = _show_warning
        return parse_and_run(sys.argv[1:] if arguments is None else arguments)
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError) and reader_has_left():
            return 141
        print(f"hf-wbc: {describe(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hf-wbc: interrupted", file=sys.stderr)
        return 130


def parse_and_run(arguments: Sequence[str]) -> int:
    """Run what the arguments say; the command's status, or 0 when it returns none.

    Whatever is printed has left when this ends.
    """
    name = arguments[0] if arguments else ""
    try:
        if name in COMMANDS:
            command, arguments = build_command(name, arguments[1:])
            status = tyro.cli(command, prog=f"hf-wbc {name}", args=arguments, config=STYLE)
        else:
            status = tyro.extras.subcommand_cli_from_dict(
                {name: load_command(name) for name in COMMANDS},
                prog="hf-wbc",
                description="White blood cell classification that survives the change of "
                "laboratory.",
                args=arguments,
                config=STYLE,
            )
        return status if isinstance(status, int) else 0
    finally:
        sys.stdout.flush()


def _show_warning(
    message: Warning | str, category: type[Warning], *place: Any, **others: Any
) -> None:
    """Print a renamed field in one line, and every other warning as Python does."""
    if issubclass(category, RenamedWarning):
        print(f"hf-wbc: {message}", file=sys.stderr)
    else:
        _SHOW_WARNING(message, category, *place, **others)


def reader_has_left() -> bool:
    """Whether whoever read our output has gone, as `head` does; what is still to come is dropped.

    A shell reports 141 of a program that this ends.
    """
    output = sys.stdout.fileno()
    poll = select.poll()
    poll.register(output, select.POLLOUT)
    if not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def describe(error: ValueError | OSError) -> str:
    """The error's own words; one of the system also names the file that it met, and a remedy."""
    if not isinstance(error, OSError):
        return str(error)
    words = error.strerror or str(error)
    if not error.filename:
        return words
    remedy = REMEDIES.get(error.errno or 0)
    return f"{words}: {error.filename}" + (f"; {remedy}" if remedy else "")
