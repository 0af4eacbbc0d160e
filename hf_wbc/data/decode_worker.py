"""Run functions on untrusted data in worker processes with limits of time and memory.

A decoder that takes too long, takes too much memory or crashes ends its worker, which the next call
replaces. A worker is started once and costs a call less than a millisecond.
"""

import atexit
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from queue import LifoQueue
from typing import Any

CPU_SECONDS = 6
"""Processor time of one call; decoding the largest image takes less than 2 seconds."""
WALL_SECONDS = 60.0
"""Time of one call, also on a busy machine."""
MEMORY_BYTES = 2**30
"""Memory of a worker beyond what it has after starting."""
_START = "import hf_wbc.data.decode_worker as worker; worker.serve(*map(int, {args}))"


class LimitExceeded(Exception):
    """A call was ended because it took too long or too much memory, or its process crashed."""


class DecodeWorkers:
    """Worker processes for untrusted data; `run` may be called from several threads.

    Args:
        num: Number of processes, started when they are first needed.
        cpu_seconds: Processor time of one call.
        memory_bytes: Memory of one process beyond what it has after starting.
    """

    def __init__(
        self, num: int = 1, cpu_seconds: int = CPU_SECONDS, memory_bytes: int = MEMORY_BYTES
    ) -> None:
        self._limits = cpu_seconds, memory_bytes
        self._process = os.getpid()
        self._idle: LifoQueue[subprocess.Popen[bytes] | None] = LifoQueue()
        for _ in range(num):
            self._idle.put(None)
        atexit.register(self.close)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return `function(*args)`, computed by a worker; blocks while all are busy.

        Raises:
            LimitExceeded: If the call was ended. Errors of the function are raised as they are.
        """
        worker = self._idle.get()
        try:
            if worker is None or worker.poll() is not None:
                worker = self._start()
            succeeded, result = self._ask(worker, (function, args))
        except BaseException:
            _end(worker)
            worker = None
            raise
        finally:
            self._idle.put(worker)
        if not succeeded:
            raise result
        return result

    def close(self) -> None:
        """End the idle workers; a busy one ends when its call does."""
        if os.getpid() != self._process:  # the workers are its parent's
            return
        for _ in range(self._idle.qsize()):
            _end(self._idle.get())
            self._idle.put(None)

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _START.format(args=self._limits)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C goes to this process, which then ends its workers
        )

    def _ask(self, worker: subprocess.Popen[bytes], call: Any) -> tuple[bool, Any]:
        assert worker.stdin is not None and worker.stdout is not None
        try:
            pickle.dump(call, worker.stdin, pickle.HIGHEST_PROTOCOL)
            worker.stdin.flush()
            if not wait([worker.stdout.fileno()], WALL_SECONDS):
                raise LimitExceeded("it takes too long")
            found: tuple[bool, Any] = pickle.load(worker.stdout)
        except (BrokenPipeError, EOFError, pickle.UnpicklingError) as error:
            raise LimitExceeded("it takes too long or too much memory") from error
        return found


def _end(worker: subprocess.Popen[bytes] | None) -> None:
    if worker is None:
        return
    worker.kill()
    worker.wait()
    for stream in (worker.stdin, worker.stdout):
        if stream is not None:
            with suppress(OSError):  # what could not be sent
                stream.close()


def serve(cpu_seconds: int, memory_bytes: int) -> None:
    """Answer calls from standard input until it ends, within limits for each call."""
    global _is_worker
    import numpy  # noqa: F401 (counts to the memory after starting)
    from PIL import Image  # noqa: F401

    _is_worker = True
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    _limit_memory(memory_bytes)
    while True:
        try:
            function, args = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        _limit_time(cpu_seconds)
        try:
            result: tuple[bool, Any] = (True, function(*args))
        except Exception as error:
            result = (False, error)
        try:
            data = pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
        except Exception:  # an error that cannot be sent
            data = pickle.dumps((False, ValueError(str(result[1]))))
        answers.write(data)
        answers.flush()


_is_worker = False
_own: dict[int, DecodeWorkers] = {}
"""The workers of this process, by its id: a forked process must not share its parent's."""
_lock = threading.Lock()


def run_limited(function: Callable[..., Any], *args: Any) -> Any:
    """Return `function(*args)` from a worker of this process; within a worker, call it directly.

    Raises:
        LimitExceeded: See `DecodeWorkers.run`.
    """
    if _is_worker:
        return function(*args)
    with _lock:
        if (workers := _own.get(os.getpid())) is None:
            workers = _own[os.getpid()] = DecodeWorkers()
    return workers.run(function, *args)


def _limit_memory(num_bytes: int) -> None:
    with suppress(ImportError, OSError, ValueError):  # not on every system
        import resource
        from pathlib import Path

        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        limit = pages * resource.getpagesize() + num_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _limit_time(seconds: int) -> None:
    with suppress(ImportError, OSError, ValueError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
