"""What an option may be is said once, by its type: `weight: NotNegative = 1.0`.

Options come from a command line or a file, as int | float | bool | str. `Checked` refuses a value
of another type, one out of its range, and NaN.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Range:
    """Which numbers an option may be."""

    must: str
    """In words, as they follow "it must"."""
    holds: Callable[[float], bool]


AT_LEAST_ONE = Range("be at least 1", lambda value: value >= 1)

NotNegative = Annotated[float, Range("not be negative", lambda value: value >= 0)]
Positive = Annotated[float, Range("be positive", lambda value: value > 0)]
AtLeastOne = Annotated[float, AT_LEAST_ONE]
Count = Annotated[int, AT_LEAST_ONE]
Fraction = Annotated[float, Range("be in [0, 1]", lambda value: 0 <= value <= 1)]
ProperFraction = Annotated[float, Range("be in [0, 1)", lambda value: 0 <= value < 1)]
PositiveFraction = Annotated[float, Range("be in (0, 1]", lambda value: 0 < value <= 1)]

KINDS = {
    bool: "be True or False",
    int: "be a whole number",
    float: "be a finite number",
    str: "be text",
}


@dataclass(frozen=True)
class Checked:
    """Base of frozen dataclasses of options, and itself the options of who has none.

    A field is a bool, int, float or str, `Annotated` with ranges or not, or one of `Literal` texts.
    """

    def __post_init__(self) -> None:
        """ValueError for a value that its type excludes; an int becomes the float that is meant."""
        hints = get_type_hints(type(self), include_extras=True)
        for name in (field.name for field in fields(self)):
            value, hint = getattr(self, name), hints[name]
            kind, *ranges = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            if wrong := fault(value, kind, ranges):
                raise ValueError(f"{name} is {value!r}; {wrong}")
            if kind is float:  # 1 and 1.0 are one setting of one run
                object.__setattr__(self, name, float(value))


def fault(value: Any, kind: Any, ranges: Sequence[Range] = ()) -> str:
    """What is wrong with the value of an option; empty when nothing is."""
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        return "" if value in choices else f"choose from {', '.join(choices)}"
    if not _is(value, kind):
        return f"it must {KINDS[kind]}"
    return next((f"it must {each.must}" for each in ranges if not each.holds(value)), "")


def _is(value: Any, kind: Any) -> bool:
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # and no NaN
    return type(value) is kind
