"""Commands in forks of the test process, which start at once with all of its imports."""

import gc
import os
import signal
from collections.abc import Callable

import psutil
import pytest
import torch


def start_forked(action: Callable[[], int]) -> psutil.Process:
    """Run `action` in a fork, without output; its result is the exit status.

    Skips the test on a machine with an accelerator, which a fork cannot use.
    """
    if torch.accelerator.is_available():
        pytest.skip("a fork cannot use the accelerator of its parent")
    if not (pid := os.fork()):
        status = 1
        try:
            gc.freeze()  # what the parent holds must not be destroyed here
            signal.signal(signal.SIGINT, signal.default_int_handler)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            torch.set_num_threads(1)  # a fork lacks the threads of its parent's pool
            status = action()
        finally:
            os._exit(status)
    return psutil.Process(pid)


def is_over(process: psutil.Process) -> bool:
    """Return whether a process has ended, whether or not its parent has asked for its status."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
