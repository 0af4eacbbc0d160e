"""What the user sets of a study: NAME=VALUE for each parameter of its function.

A function that takes `**fields` can be given any plain field of TrainConfig.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any, get_args

from hf_wbc.config import TrainConfig

DECIDED = ("sources", "target", "held_out", "method", "model", "seed")
"""Fields that the study itself decides."""
TRUTH = {"true": True, "false": False}


def parse_settings(study: Callable[..., Any], settings: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE pairs as the study's parameters, each of its default's type.

    Words of a tuple are joined by commas. ValueError for an unknown name or another type.
    """
    defaults = _defaults(study)
    chosen = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"{setting!r} sets nothing; write --set NAME=VALUE")
        if name not in defaults:
            raise ValueError(
                f"the study has no parameter {name!r}; {nearest(name, list(defaults))}"
            )
        try:
            chosen[name] = _parse(text, defaults[name])
        except (KeyError, ValueError):
            kind = type(defaults[name]).__name__
            raise ValueError(f"--set {setting}: {text!r} is no {kind}") from None
    return chosen


def nearest(name: str, names: Sequence[str]) -> str:
    """A hint at what was meant by an unknown name."""
    near = get_close_matches(name, names, n=1)
    choices = f"choose from {', '.join(names)}" if names else "it takes none"
    return f"did you mean {near[0]!r}?" if near else choices


def _parse(text: str, default: object) -> object:
    """A value of the default's type; a default of None takes words."""
    if isinstance(default, bool):
        return TRUTH[text.lower()]
    if isinstance(default, tuple | list):
        item = default[0] if default else ""
        return type(default)(_parse(word, item) for word in text.split(",") if word)
    if isinstance(default, int | float):
        return type(default)(text)
    return text


def _defaults(study: Callable[..., Any]) -> dict[str, Any]:
    """The default, or one of its type, of everything that can be set."""
    found: dict[str, Any] = {}
    parameters = inspect.signature(study).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        for field in fields(TrainConfig):
            if field.name in DECIDED or field.default is MISSING:
                continue
            found[field.name] = field.default
            if field.default is None:  # `int | None` takes an int
                found[field.name] = get_args(field.type)[0]()
    for parameter in parameters:
        if parameter.kind is not parameter.VAR_KEYWORD:
            found[parameter.name] = parameter.default
    return found
