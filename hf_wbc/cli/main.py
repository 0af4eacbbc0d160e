"""`hf-wbc COMMAND ...`: finds the command's file, parses its arguments, and reports its errors."""

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import tyro

COMMANDS = ("toy", "prepare", "train", "embed", "evaluate", "doctor")


def commands() -> dict[str, Any]:
    """Every command's function; each lies in the file of its name."""
    return {name: getattr(importlib.import_module(f"hf_wbc.cli.{name}"), name) for name in COMMANDS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it succeeded, 1 when the user can mend what failed, 130 on Ctrl-C."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            commands(),
            prog="hf-wbc",
            description="White blood cell classification that survives the change of laboratory.",
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff),
        )
    except (ValueError, OSError) as error:
        print(f"hf-wbc: {describe(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("hf-wbc: interrupted", file=sys.stderr)
        return 130
    return 0


def describe(error: ValueError | OSError) -> str:
    """The error's own words; an error of the system also says which file it met."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)
