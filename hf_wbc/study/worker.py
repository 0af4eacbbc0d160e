"""A process that does one task after another, warm, and never outlives who started it.

It leads a process group of its own: Ctrl-C in the terminal does not reach it, and whatever it
started ends with it.
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
"""How processes begin: a forked one could not use a GPU that its parent has looked at."""
REPORT_S = 0.2
"""Steps are not told more often than this."""
PATIENCE_S = 5.0
"""For a group to end by itself once it was asked to."""


@dataclass(frozen=True)
class WorkerEnvironment:
    """What a worker is given once."""

    threads: int
    device: str | None
    """The one GPU that it sees, as in CUDA_VISIBLE_DEVICES; None leaves that as it is."""
    log: Path
    """What it prints before its first task."""


class Worker:
    """The handle of a process that does tasks."""

    def __init__(self, surroundings: WorkerEnvironment) -> None:
        _start_tracker()
        context = get_context(START)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, surroundings), daemon=True)
        with block_interrupt():
            self.process.start()
        theirs.close()

    def give(self, task: "Task") -> None:
        """Start a task; a worker that has died is noticed later, by its sentinel."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(task)

    def receive(self) -> Any:
        """What it has said, or None when it has died without a word.

        To be called when the connection or the sentinel is ready.
        """
        try:
            return self.connection.recv() if self.connection.poll() else None
        except (EOFError, ConnectionResetError):
            return None

    def leave(self) -> None:
        """Tell an idle worker that no task will come."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(None)
        self.process.join(PATIENCE_S)

    def end(self) -> int:
        """End the process and all that it started; its exit code."""
        self._signal(signal.SIGTERM)
        self.process.join(PATIENCE_S)
        self._signal(signal.SIGKILL)
        self.process.join()
        self.connection.close()
        assert self.process.exitcode is not None
        return self.process.exitcode

    def _signal(self, number: signal.Signals) -> None:
        assert self.process.pid is not None
        if self.process.is_alive():  # perhaps not yet the leader of its group
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


def _start_tracker() -> None:
    """Start multiprocessing's own process, which unblocks Ctrl-C and so has to be there before.

    It would complain of what workers have left that were killed.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    try:
        ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _serve(connection: Connection, surroundings: WorkerEnvironment) -> None:
    """Answer each task with ("outcome", Outcome), after ("row", ...) for what the engine reports.

    A worker whose task failed ends: what the error left behind shall not reach the next run.
    """
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    Thread(target=_end_with_parent, daemon=True).start()
    print_to(surroundings.log)
    os.environ["OMP_NUM_THREADS"] = str(surroundings.threads)
    if surroundings.device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = surroundings.device
    import gc

    import torch

    from hf_wbc.study.execute import execute_task

    torch.set_num_threads(surroundings.threads)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while task := connection.recv():
            print_to(task.log)
            outcome = execute_task(task, _Teller(connection))
            connection.send(("outcome", outcome))
            if outcome.ending == "failed":
                return
            gc.collect()


class _Teller:
    """Sends on what the engine reports, but not every step."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.last = connection, 0.0

    def __call__(self, row: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now - self.last >= REPORT_S or "of" not in row:
            self.last = now
            with suppress(BrokenPipeError, ConnectionResetError):  # this process ends too, at once
                self.connection.send(("row", {"step": row["step"]}))


def print_to(log: Path) -> None:
    """Send what this process and its children print, also from C, to a file."""
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
