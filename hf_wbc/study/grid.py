"""Load a study's runs from a predefined study, or a Python file with a function `study`.

    def study(data: str = "build", seeds: int = 3) -> list[TrainConfig]: ...

The function's parameters have defaults, which users can override with NAME=VALUE. If the function
takes `**fields`, users can also set any plain field of TrainConfig.
"""

import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from hf_wbc.config import FLAT_NAMES, GROUPS, RENAMED, TrainConfig
from hf_wbc.escape import print_plain
from hf_wbc.study.protocols import STUDIES
from hf_wbc.text import did_you_mean

DECIDED = ("sources", "target", "held_out", "method", "model", "seed")
"""Fields that the study itself sets."""
TRUTH = {"true": True, "false": False}


def parse_settings(study: Callable[..., Any], settings: Sequence[str]) -> dict[str, Any]:
    """Parse NAME=VALUE pairs into parameters of the study, each of its default's type.

    Items of a tuple are separated by commas.

    Raises:
        ValueError: If a name is unknown, or a value does not have the parameter's type.
    """
    defaults = _defaults(study)
    chosen = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting!r} has no value; write --set NAME=VALUE")
        if name not in defaults and RENAMED.get(name) in defaults:
            print_plain(f"--set {name} is now --set {RENAMED[name]}", file=sys.stderr)
            name = RENAMED[name]
        if name not in defaults:
            raise ValueError(f"the study has no parameter {name!r}; {did_you_mean(name, defaults)}")
        try:
            chosen[name] = _parse(text, defaults[name])
        except (KeyError, ValueError):
            kind = type(defaults[name]).__name__
            raise ValueError(f"--set {setting}: {text!r} is not a valid {kind}") from None
    return chosen


def _parse(text: str, default: object) -> object:
    """Parse a value of the default's type; a default of None takes text."""
    if isinstance(default, bool):
        return TRUTH[text.lower()]
    if isinstance(default, tuple | list):
        item = default[0] if default else ""
        return type(default)(_parse(word, item) for word in text.split(",") if word)
    if isinstance(default, int | float):
        return type(default)(text)
    return text


def _defaults(study: Callable[..., Any]) -> dict[str, Any]:
    """Return a default, or a value of the right type, for each parameter that can be set."""
    found: dict[str, Any] = {}
    parameters = inspect.signature(study).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        for name, (group, inner) in FLAT_NAMES.items():
            field = next(each for each in fields(GROUPS[group]) if each.name == inner)
            if name in DECIDED or field.default is MISSING:
                continue
            found[name] = field.default
            if field.default is None:  # use an int for `int | None`, a str for a Literal
                kind = get_args(field.type)[0]
                found[name] = kind() if isinstance(kind, type) else ""
    for parameter in parameters:
        if parameter.kind is not parameter.VAR_KEYWORD:
            found[parameter.name] = parameter.default
    return found


Study = Callable[..., Sequence[TrainConfig]]
FUNCTION = "study"
MODULE = "hf_wbc_study"
"""Module name under which a study's file runs."""


def load_grid(name: str, settings: Sequence[str] = ()) -> tuple[TrainConfig, ...]:
    """Return the runs of a study in its own order, without duplicates.

    Args:
        name: A predefined study, or a .py file.
        settings: Parameters of the study, as NAME=VALUE.

    Raises:
        ValueError: If the name is unknown, the file fails (with the line), or a setting is invalid.
    """
    study = _load(name)
    chosen = parse_settings(study, settings)
    runs = _naming_lines(Path(name), study, chosen) if _is_file(name) else study(**chosen)
    if not isinstance(runs, Sequence) or not all(isinstance(run, TrainConfig) for run in runs):
        raise ValueError(
            f"{name}: {FUNCTION}() returned {_kinds(runs)}; return a list of TrainConfig"
        )
    if not runs:
        raise ValueError(f"{name}: {FUNCTION}() returned no runs; return at least one TrainConfig")
    once = {str(sorted(run.to_dict().items())): run for run in reversed(runs)}
    return tuple(reversed(once.values()))


def _load(name: str) -> Study:
    if name in STUDIES:
        return STUDIES[name]
    if not _is_file(name):
        raise ValueError(
            f"unknown study {name!r}; {did_you_mean(name, STUDIES)}, or give a .py file"
        )
    path = Path(name)
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a .py file with a function {FUNCTION}")
    study = _naming_lines(path, _execute, {"path": path}).get(FUNCTION)
    if not callable(study):
        raise ValueError(
            f"{path} has no function {FUNCTION}(); write one that returns TrainConfigs"
        )
    for parameter in inspect.signature(study).parameters.values():
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            raise ValueError(
                f"{path}: {FUNCTION}() has no default for {parameter.name!r}; give it one"
            )
    found: Study = study
    return found


def _is_file(name: str) -> bool:
    return name.endswith(".py")


def _execute(path: Path) -> dict[str, Any]:
    """Run a Python file and return its definitions; no bytecode is written."""
    module = ModuleType(MODULE)
    module.__file__ = str(path)
    sys.modules[MODULE] = module  # dataclasses look up annotations there
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    return module.__dict__


def _naming_lines(path: Path, function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Call a function of a study's file.

    Raises:
        ValueError: If the function fails, with the line of the file.
    """
    try:
        return function(**arguments)
    except SyntaxError as error:
        raise ValueError(f"{path}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename == str(path)
        ]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        what = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"{where}: {what}{error}") from error


def _kinds(runs: object) -> str:
    """Describe the returned value where configurations were expected."""
    if isinstance(runs, Sequence) and not isinstance(runs, str):
        others = {type(run).__name__ for run in runs if not isinstance(run, TrainConfig)}
        return f"a {type(runs).__name__} with {', '.join(sorted(others))}"
    return f"a {type(runs).__name__}"
