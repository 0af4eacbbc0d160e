"""Worker processes that end with their parent, and a thread that prefetches items.

The standard library's pools leave their processes behind when the parent is killed, or wait forever
for a worker that died. Workers here end with their parent in all cases, even in the middle of a
job, so that two builds never write at the same time.
"""

import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.resource_tracker import ensure_running
from types import TracebackType
from typing import Any, Self, TypeVar, cast


def num_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class WorkerPool:
    """A pool of processes that share a state; use it as a context manager.

    The state is sent once to each process. The process must be able to import everything that the
    state and the functions refer to.

    Args:
        num_proc: Number of processes; 1 runs jobs in this process.
        state: First argument of every function, which must be picklable.
    """

    def __init__(self, num_proc: int, state: Any) -> None:
        self._state = state
        self._processes: list[tuple[BaseProcess, Connection]] = []
        self._num_proc = num_proc if num_proc > 1 else 0

    def __enter__(self) -> Self:
        try:
            if self._num_proc:
                ensure_running()  # starting the resource tracker would unblock Ctrl-C
            with block_interrupt(), _without_main_module():
                for _ in range(self._num_proc):
                    self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _start(self) -> None:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._state), daemon=True)
        process.start()
        theirs.close()
        self._processes.append((process, ours))

    def _stop(self) -> None:
        for process, connection in self._processes:
            connection.close()
            process.terminate()
        for process, _ in self._processes:
            process.join()
        self._processes = []

    def run(
        self, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Any]]:
        """Run jobs and yield their results in the order of completion.

        Args:
            function: Called as `function(state, *job)`.
            jobs: Arguments of each call.

        Yields:
            Number and result of each job.

        Raises:
            ChildProcessError: If a process died. Errors of a job are raised as they are.
        """
        waiting = ((number, (function, job)) for number, job in enumerate(jobs))
        if not self._processes:
            for number, (_, job) in waiting:
                yield number, function(self._state, *job)
            return
        busy: dict[Connection, int] = {}
        for _, connection in self._processes:
            self._give(connection, waiting, busy)
        while busy:
            for connection in cast("list[Connection]", wait(list(busy))):
                number, result = busy.pop(connection), self._receive(connection)
                self._give(connection, waiting, busy)
                yield number, result

    def map(self, function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run jobs and return their results in the order of the jobs; see `run`."""
        found = dict(self.run(function, jobs))
        return [found[number] for number in range(len(jobs))]

    def _give(
        self,
        connection: Connection,
        waiting: Iterator[tuple[int, Any]],
        busy: dict[Connection, int],
    ) -> None:
        """Send the next job, if there is one."""
        if (task := next(waiting, None)) is None:
            return
        number, job = task
        try:
            connection.send(job)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._dead(connection) from error
        busy[connection] = number

    def _receive(self, connection: Connection) -> Any:
        try:
            succeeded, result = connection.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._dead(connection) from error
        if not succeeded:
            raise result
        return result

    def _dead(self, connection: Connection) -> ChildProcessError:
        process = next(process for process, ours in self._processes if ours is connection)
        process.join(timeout=1)
        return ChildProcessError(
            f"a worker process died (exit code {process.exitcode}), perhaps because memory ran "
            "out; repeat the command, with a lower --num-proc if this recurs"
        )


@contextmanager
def block_interrupt() -> Iterator[None]:
    """Defer Ctrl-C until the block ends; processes started in the block ignore it permanently.

    Child processes inherit the signal mask, which applies to this thread only. If another thread
    receives the signal, Python still interrupts the main thread, which would leave a process half
    started, so the handler is deferred as well.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    handler, missed = signal.getsignal(signal.SIGINT), threading.Event()
    waits = callable(handler) and threading.current_thread() is threading.main_thread()
    if waits:
        signal.signal(signal.SIGINT, lambda *_: missed.set())
    try:
        yield
    finally:
        if waits:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if missed.is_set():
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Let new processes not import the main module again.

    It may be a user's script that does its work without `if __name__ == "__main__":`, which each
    process would do again.
    """
    main = vars(sys.modules["__main__"])
    names: list[str] = [name for name in ("__file__", "__spec__") if name in main]
    hidden = {name: main.pop(name) for name in names}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(hidden)


def _serve(connection: Connection, state: Any) -> None:
    """Answer each (function, job) with (True, result) or (False, error) until the pipe closes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            function, job = connection.recv()
            try:
                answer = (True, function(state, *job))
            except Exception as error:
                error.add_note("".join(traceback.format_exception(error)))
                answer = (False, error)
            connection.send(answer)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


T = TypeVar("T")
_LOOK_S = 0.1
"""Interval in seconds at which the thread checks whether the consumer has stopped."""


def prefetch(items: Generator[T] | Iterator[T], num: int = 1) -> Iterator[T]:
    """Yield items in order while a thread prepares the next ones.

    Errors of the iterator are raised in the consumer. When the consumer stops, the thread ends and
    closes the iterator.

    Args:
        items: Iterator to consume in the thread.
        num: Number of items to prepare ahead.
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
        except BaseException as error:  # re-raised in the consumer
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
