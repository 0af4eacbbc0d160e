"""A worker process that executes tasks one after another and never outlives its parent.

It leads its own process group, so Ctrl-C in the terminal does not reach it, and all processes that
it starts end with it.
"""

import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.resource_tracker import ensure_running
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from hf_wbc.data.parallel import block_interrupt

if TYPE_CHECKING:
    from hf_wbc.study.task import Task

START: Final = "spawn"
"""Start method of processes: a forked process could not use a GPU that its parent initialized."""
REPORT_S = 0.2
"""Minimum seconds between two reported steps."""
PATIENCE_S = 5.0
"""Seconds that a process group has to exit after a request."""


@dataclass(frozen=True)
class WorkerEnvironment:
    """Settings of a worker that do not change between tasks."""

    threads: int
    device: str | None
    """The only GPU that the worker sees, as in CUDA_VISIBLE_DEVICES; None leaves that unchanged."""
    log: Path
    """File for output before the first task."""


class Worker:
    """Handle of a worker process.

    The process starts others that decode images, so it cannot be a daemon: call `end` to stop it.
    """

    def __init__(self, environment: WorkerEnvironment) -> None:
        _start_tracker()
        context = get_context(START)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, environment), daemon=False)
        with block_interrupt():
            self.process.start()
        theirs.close()

    def give(self, task: "Task") -> None:
        """Start a task; if the worker has died, its sentinel reports that later."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(task)

    def receive(self) -> Any:
        """Return the worker's message, or None if it died without one.

        Call this when the connection or the sentinel is ready.
        """
        try:
            return self.connection.recv() if self.connection.poll() else None
        except (EOFError, ConnectionResetError):
            return None

    def leave(self) -> None:
        """Tell an idle worker to exit."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(None)
        self.process.join(PATIENCE_S)

    def end(self) -> int:
        """End the process and all processes that it started; return its exit code."""
        self._signal(signal.SIGTERM)
        self.process.join(PATIENCE_S)
        self._signal(signal.SIGKILL)
        self.process.join()
        self.connection.close()
        assert self.process.exitcode is not None
        return self.process.exitcode

    def _signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        if self.process.is_alive():  # it may not lead its process group yet
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


def _start_tracker() -> None:
    """Start multiprocessing's resource tracker early, because starting it unblocks Ctrl-C.

    Its warnings about resources of killed workers are suppressed.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    try:
        ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _serve(connection: Connection, environment: WorkerEnvironment) -> None:
    """Answer each task with ("outcome", Outcome), preceded by ("row", ...) for progress.

    A worker exits after a failed task, so that the failure cannot affect the next run.
    """
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    Thread(target=_end_with_parent, daemon=True).start()
    print_to(environment.log)
    os.environ["OMP_NUM_THREADS"] = str(environment.threads)
    if environment.device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = environment.device
    import gc

    import torch

    from hf_wbc.study.execute import execute_task

    torch.set_num_threads(environment.threads)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while task := connection.recv():
            print_to(task.log)
            outcome = execute_task(task, _ProgressSender(connection))
            connection.send(("outcome", outcome))
            if outcome.ending == "failed":
                return
            gc.collect()


class _ProgressSender:
    """Forwards the engine's progress at a limited rate."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.last = connection, 0.0

    def __call__(self, row: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now - self.last >= REPORT_S or "of" not in row:
            self.last = now
            with suppress(BrokenPipeError, ConnectionResetError):  # this process ends soon too
                self.connection.send(("row", {"step": row["step"]}))


def print_to(log: Path) -> None:
    """Redirect the output of this process and its children, including C code, to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)
