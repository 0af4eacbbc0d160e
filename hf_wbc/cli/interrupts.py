"""Ctrl-C, and the end of a command's process, at moments that native code survives.

Two moments are fatal. A KeyboardInterrupt while a library is being imported can leave it half
initialized: another error hides the interrupt, or the process crashes later. And when Python
finalizes the interpreter, threads of native libraries (torch, Arrow, OpenMP, OpenVINO) still use
what it destroys, so a process could crash after its command had ended.
"""

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import NoReturn, Self

__all__ = ["CtrlC", "end_process"]

_RETRY_S = 0.05
"""Seconds until a press of Ctrl-C that could not take effect is repeated."""
_IMPORTING = "<frozen importlib._bootstrap>"


class CtrlC:
    """Context manager that raises KeyboardInterrupt, but not during an import.

    A press during an import takes effect when the import ends; a second press takes effect at once.
    If Python ignores the KeyboardInterrupt, because it was raised in a finalizer, it is repeated.
    Handlers of the user, and processes that ignore Ctrl-C, are left alone.

    Attributes:
        num_presses: How often Ctrl-C was pressed. If it is not 0, an error of the command may be an
            interrupt that a library has replaced by an exception of its own.
    """

    def __init__(self) -> None:
        self.num_presses = 0
        self._is_retry = self._is_installed = False
        self._ignore = sys.unraisablehook

    def __enter__(self) -> Self:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            self._ignore, sys.unraisablehook = sys.unraisablehook, self._on_ignored
            self._is_installed = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.unraisablehook = self._ignore

    def _on_ignored(self, ignored: "sys.UnraisableHookArgs") -> None:
        """Repeat an interrupt that Python ignores, and report other errors as before."""
        if issubclass(ignored.exc_type, KeyboardInterrupt):
            self._retry_soon()
        else:
            self._ignore(ignored)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.num_presses += not self._is_retry
        self._is_retry = False
        if self.num_presses > 1 or not _is_importing(frame):
            raise KeyboardInterrupt
        self._retry_soon()

    def _retry_soon(self) -> None:
        timer = threading.Timer(_RETRY_S, self._retry)
        timer.daemon = True
        timer.start()

    def _retry(self) -> None:
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            self._is_retry = True
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            return True
        frame = frame.f_back
    return False


def end_process(status: int) -> NoReturn:
    """End this process with a status, without finalizing the interpreter.

    Functions that are registered with `atexit` are called, and output is flushed.
    """
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)
