"""What comes next, made ready by a thread while the last is worked on."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar, cast

T = TypeVar("T")
_LOOK_S = 0.1
"""How often the thread looks whether anybody still wants what it has."""


def ahead(items: Generator[T] | Iterator[T], num: int = 1) -> Iterator[T]:
    """The items in their order, `num` of them ready before they are asked for.

    An error of theirs is raised here; when nobody asks any more, the thread ends, and closes them.
    """
    ready: queue.Queue[tuple[str, object]] = queue.Queue(num)
    over = threading.Event()

    def put(kind: str, value: object) -> None:
        while not over.is_set():
            try:
                return ready.put((kind, value), timeout=_LOOK_S)
            except queue.Full:
                continue

    def fill() -> None:
        try:
            for item in items:
                put("item", item)
                if over.is_set():
                    break
            put("end", None)
        except BaseException as error:  # the asker's to handle
            put("error", error)
        finally:
            if isinstance(items, Generator):
                items.close()

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "item":
                yield cast("T", value)
            elif kind == "error":
                raise cast("BaseException", value)
            else:
                return
    finally:
        over.set()
        thread.join()
