"""A prefetching thread keeps order, forwards errors, and ends with its consumer."""

import threading
from collections.abc import Iterator

import pytest

from hf_wbc.data.parallel import prefetch


def test_prefetch_preserves_order() -> None:
    assert list(prefetch(iter(range(50)))) == list(range(50))
    assert list(prefetch(iter(()))) == []


def test_next_item_is_prepared_while_current_is_used() -> None:
    made = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        made.set()
        yield 1

    found = prefetch(items())
    assert next(found) == 0
    assert made.wait(60)
    assert list(found) == [1]


def test_error_is_raised_in_place_of_its_item() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise ValueError("the second is bad")

    found = prefetch(items())
    assert next(found) == 0
    with pytest.raises(ValueError, match="the second is bad"):
        next(found)


def test_closing_ends_the_thread_and_closes_the_source() -> None:
    closed, before = threading.Event(), threading.active_count()

    def items() -> Iterator[int]:
        try:
            yield from range(10**9)
        finally:
            closed.set()

    found = prefetch(items())
    assert next(found) == 0
    found.close()  # type: ignore[attr-defined]
    assert closed.wait(60) and threading.active_count() == before
