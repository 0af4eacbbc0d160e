"""Shapes of the record of a training run: which keys it has, and what kind of value each holds.

A run folder may be damaged or come from an untrusted source. Code that reads a whole record checks
its shape first, so that every later access finds what it expects.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from hf_wbc.config import GROUPS, TrainConfig
from hf_wbc.taxonomy import NAMES, NUM_CLASSES

Shape = Callable[[Any, str], Iterator[str]]
"""Yields a sentence for each difference of a value, given its place in the record."""
_SHOWN = 60
_MAX_DEPTH = 100


def check_training_record(record: Mapping[str, Any]) -> None:
    """Check the shape of the record of a training run, in today's format.

    Raises:
        ValueError: Names the first place that differs, its value and what is expected.
    """
    _require_shallow(record)
    if difference := next(_differences(record), None):
        raise ValueError(difference)


def _require_shallow(record: Mapping[str, Any]) -> None:
    """Raise ValueError for values nested so deeply that recursive code would overflow the stack."""
    level: list[Any] = [record]
    for _ in range(_MAX_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [each for values in inner for each in values if isinstance(each, dict | list)]
        if not level:
            return
    raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels")


def _differences(record: Mapping[str, Any]) -> Iterator[str]:
    yield from _TRAINING(record, "")
    try:
        config = TrainConfig.from_record(record)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        yield f"config cannot be read ({error})"
        return
    yield from _config_differences(config)
    judged = [row["selection"].get("oracle") for row in record["history"]]
    if config.eval.oracle and not any(map(_is_finite, judged)):
        yield "history has no evaluation with the oracle's score, which config asks for"
    domains = {
        domain["name"]: domain
        for role in ("sources", "target", "held_out")
        for domain in record[role]
    }
    for name, entry in record["results"].items():
        place = f"results.{name}"
        if name not in domains:
            yield f"{place} is no domain of the record: {', '.join(domains)}"
            return
        for split, parts in _SCORED_PARTS.items():
            lacking = [part for part in parts if not isinstance(domains[name].get(part), str)]
            if entry.get(split) is not None and lacking:
                yield f"{place}.{split} has scores, and the domain has no {', '.join(lacking)}"


def _config_differences(config: TrainConfig) -> Iterator[str]:
    """Yield the fields of a configuration that have a value of another type."""
    for group, cls in GROUPS.items():
        values = getattr(config, group)
        for name, hint in get_type_hints(cls).items():
            if not _has_type(getattr(values, name), hint):
                yield _wrong(getattr(values, name), f"config.{group}.{name}", str(hint))
    yield from _count(config.seed, "config.seed")


def _has_type(value: Any, hint: Any) -> bool:
    """Return whether a value has the annotated type of a field; elements of mappings may be any."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _has_type(value, inner[0])
    if origin in (Union, UnionType):
        return any(_has_type(value, each) for each in inner)
    if origin is Literal:
        return isinstance(value, str) and value in inner
    if origin is tuple:
        return isinstance(value, tuple) and all(_has_type(each, inner[0]) for each in value)
    if hint is float:
        return _is_finite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _wrong(value: Any, place: str, expected: str) -> str:
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
    return f"{place or 'the record'} is {shown}; {expected} is expected"


def _text(value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, str):
        yield _wrong(value, place, "a text")


def _boolean(value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, bool):
        yield _wrong(value, place, "true or false")


def _number(value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        yield _wrong(value, place, "a number")


def _amount(value: Any, place: str) -> Iterator[str]:
    if not _is_finite(value) or value < 0:
        yield _wrong(value, place, "a number from 0 on")


def _fraction(value: Any, place: str) -> Iterator[str]:
    if not _is_finite(value) or not 0 <= value <= 1:
        yield _wrong(value, place, "a number from 0 to 1")


def _count(value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        yield _wrong(value, place, "a whole number from 0 on")


def _is_finite(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max  # NaN is not


def _any(value: Any, place: str) -> Iterator[str]:
    yield from ()


def _or_null(shape: Shape) -> Shape:
    def check(value: Any, place: str) -> Iterator[str]:
        if value is not None:
            yield from shape(value, place)

    return check


def _one_of(*values: str) -> Shape:
    def check(value: Any, place: str) -> Iterator[str]:
        if value not in values or not isinstance(value, str):
            yield _wrong(value, place, f"one of {', '.join(values)}")

    return check


def _list(shape: Shape, length: int | None = None, fewest: int = 0) -> Shape:
    def check(value: Any, place: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield _wrong(value, place, "a list")
        elif length is not None and len(value) != length:
            yield _wrong(value, place, f"a list of {length}")
        elif len(value) < fewest:
            yield _wrong(value, place, "a list that is not empty")
        else:
            for number, each in enumerate(value):
                yield from shape(each, f"{place}[{number}]")

    return check


def _mapping(shape: Shape, fewest: int = 0) -> Shape:
    def check(value: Any, place: str) -> Iterator[str]:
        if not isinstance(value, dict) or len(value) < fewest:
            yield _wrong(value, place, "an object" if not fewest else "an object with entries")
        else:
            for name, each in value.items():
                yield from shape(each, f"{place}.{name}")

    return check


def _object(optional: Mapping[str, Shape] | None = None, /, **required: Shape) -> Shape:
    """Require keys; those of `optional` may be missing, and any others are ignored."""

    def check(value: Any, place: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield _wrong(value, place, "an object")
            return
        start = f"{place}." if place else ""
        for name, shape in required.items():
            if name in value:
                yield from shape(value[name], start + name)
            else:
                yield f"{start}{name} is missing"
        for name, shape in (optional or {}).items():
            if name in value:
                yield from shape(value[name], start + name)

    return check


def _confusion(value: Any, place: str) -> Iterator[str]:
    """Check a square matrix of counts."""
    yield from _list(_list(_count), fewest=1)(value, place)
    if isinstance(value, list) and any(
        isinstance(row, list) and len(row) != len(value) for row in value
    ):
        yield _wrong(value, place, "a square matrix")


_SCORED_PARTS = {
    "validation": ("validation",),
    "test": ("test",),
    "transductive": ("train", "validation", "test"),
}
"""Splits of a domain that scores are of."""
_CLASS = _one_of(*NAMES)
_SCORES = _object(
    macro_f1=_fraction,
    accuracy=_fraction,
    balanced_accuracy=_fraction,
    num_classes=_count,
    num_images=_count,
    merge=_list(_text),
    classes=_list(_CLASS),
    class_names=_list(_CLASS, fewest=1),
    confusion=_confusion,
    worst_class=_object(name=_CLASS, f1=_fraction),
    per_class=_mapping(_object(f1=_fraction, support=_count), fewest=1),
    lineage_errors=_object(one_step=_fraction, same_lineage=_fraction, cross_lineage=_fraction),
    intervals=_object(macro_f1=_list(_fraction, length=2)),
)
_ABSTENTION = _object(
    aurc=_number,
    ece=_object(before=_number, after=_number),
    conformal=_object(marginal=_object(coverage=_number, mean_size=_number)),
    review=_object(
        myeloblast=_object(
            ranking=_or_null(_object(num=_count, recall_at_rate=_object({}, **{"0.1": _number})))
        )
    ),
)
_CALIBRATION = _object(
    {"num_images": _any, "note": _text},
    temperature=_number,
    domains=_mapping(_object({split: _or_null(_ABSTENTION) for split in _SCORED_PARTS})),
)
_PRIORS = _object(
    priors=_list(_number, length=NUM_CLASSES),
    low=_list(_or_null(_number), length=NUM_CLASSES),
    high=_list(_or_null(_number), length=NUM_CLASSES),
    num_source=_list(_count, length=NUM_CLASSES),
)
_DOMAIN = _object(
    {
        "um_per_px": _or_null(_amount),
        **{split: _or_null(_text) for split in ("train", "validation", "test")},
    },
    name=_text,
    ref=_text,
    revision=_or_null(_text),
)
_EVALUATION = _object(
    {part: _mapping(_mapping(_or_null(_number))) for part in ("source_val", "held_out", "oracle")},
    step=_count,
    phase=_text,
    loss=_mapping(_number),
    selection=_mapping(_number),
)
_TRAINING = _object(
    {
        "calibration": _or_null(_CALIBRATION),
        "target_labels": _or_null(
            _object(num=_count, strategy=_text, readers=_list(_text), digest=_text)
        ),
        "label_shift": _or_null(
            _mapping(_object({"bbse": _PRIORS, "em": _PRIORS, "rlls": _PRIORS, "note": _text}))
        ),
    },
    run=_text,
    config=_object(),
    model=_object(
        name=_text,
        revision=_text,
        exposure=_text,
        exposed_to=_list(_text),
        num_parameters=_count,
    ),
    images=_object(note=_text, pipeline_scores=_mapping(_any)),
    results=_mapping(
        _object(
            {split: _or_null(_SCORES) for split in _SCORED_PARTS},
            role=_one_of("target", "source", "held out"),
        )
    ),
    sources=_list(_DOMAIN, fewest=1),
    target=_list(_DOMAIN),
    held_out=_list(_DOMAIN),
    selection=_object(rule=_text, sees=_text, step=_count),
    history=_list(_EVALUATION, fewest=1),
    cost=_object(
        steps=_count,
        train_s=_amount,
        elapsed_s=_amount,
        images_per_s=_amount,
        peak_memory_bytes=_count,
    ),
    machine=_object(device=_text, num_processes=_count),
    packages=_mapping(_text),
)
