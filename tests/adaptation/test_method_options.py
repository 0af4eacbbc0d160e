"""An option's type determines its valid values; errors name the option."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import pytest

from hf_wbc.adaptation import load_method, method_names
from hf_wbc.adaptation.method import (
    AtLeastOne,
    Count,
    Fraction,
    MethodOptions,
    NotNegative,
    Positive,
    PositiveFraction,
    ProperFraction,
)


@dataclass(frozen=True)
class First(MethodOptions):
    weight: NotNegative = 0
    delta: Positive = 1.0
    factor: AtLeastOne = 1.0


@dataclass(frozen=True)
class Second(MethodOptions):
    width: Count = 1
    sure: Fraction = 1.0
    decay: ProperFraction = 0.0


@dataclass(frozen=True)
class Both(First, Second):
    margin: PositiveFraction = 1.0
    soft: bool = False
    shift: float = -1.0
    prior: Literal["uniform", "estimated"] = "uniform"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"weight": -1}, "weight is -1; it must not be negative"),
        ({"delta": 0.0}, "delta is 0.0; it must be positive"),
        ({"factor": 0.9}, "factor is 0.9; it must be at least 1"),
        ({"width": 0}, "width is 0; it must be at least 1"),
        ({"sure": 1.1}, "sure is 1.1; it must be in [0, 1]"),
        ({"sure": -0.1}, "sure is -0.1; it must be in [0, 1]"),
        ({"decay": 1}, "decay is 1; it must be in [0, 1)"),
        ({"margin": 0}, "margin is 0; it must be in (0, 1]"),
        ({"prior": "flat"}, "prior is 'flat'; choose from uniform, estimated"),
        ({"prior": 0}, "prior is 0; choose from uniform, estimated"),
        ({"weight": "much"}, "weight is 'much'; it must be a finite number"),
        ({"weight": True}, "weight is True; it must be a finite number"),
        ({"weight": math.nan}, "weight is nan; it must be a finite number"),
        ({"weight": math.inf}, "weight is inf; it must be a finite number"),
        ({"shift": -math.inf}, "shift is -inf; it must be a finite number"),
        ({"soft": 1}, "soft is 1; it must be True or False"),
        ({"soft": "yes"}, "soft is 'yes'; it must be True or False"),
        ({"width": 1.5}, "width is 1.5; it must be a whole number"),
        ({"width": False}, "width is False; it must be a whole number"),
    ],
)
def test_invalid_option_is_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        Both(**option)
    assert str(refused.value) == message


def test_number_too_large_for_float_is_refused() -> None:
    with pytest.raises(ValueError, match="it must be a finite number"):
        First(weight=10**400)


def test_range_limits_are_inclusive() -> None:
    values = {
        "weight": 0.0, "factor": 1.0, "width": 1, "sure": 0.0, "decay": 0.0, "margin": 1.0,
    }  # fmt: skip
    assert values.items() <= asdict(Both(**values)).items()  # type: ignore[arg-type]


def test_integer_given_for_float_is_converted() -> None:
    """The digest of a resolved config distinguishes 1 from 1.0."""
    options = Both(weight=1, width=2, shift=3, soft=True, prior="estimated")
    assert type(options.weight) is type(options.shift) is float
    assert type(options.width) is int and options.soft is True and options.prior == "estimated"


@pytest.mark.parametrize("name", method_names())
def test_every_option_of_every_method_is_checked(name: str) -> None:
    method = load_method(name)
    assert issubclass(method.Options, MethodOptions)
    for option in fields(method.Options):
        with pytest.raises(ValueError, match=rf"^{option.name} is \[\]; "):
            method.parse({option.name: []})
