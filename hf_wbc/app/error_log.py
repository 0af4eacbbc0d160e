"""The log of unexpected errors: their kind and place, without their messages.

Gradio prints the traceback of an error, whose message can quote what a visitor has sent: the name
of a patient's file, or the text of a malformed request.
"""

import logging
import sys
import traceback
from pathlib import Path
from typing import Any

_NUM_FRAMES = 4
_log = logging.getLogger(__name__)


class QuietTraceback:
    """Replaces the module `traceback` in modules that print errors with it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(traceback, name)

    def print_exc(self, *args: Any, **options: Any) -> None:
        """Log the current error without its message."""
        error = sys.exception()
        if error is not None:
            _log.error("%s", error_place(error))


def error_place(error: BaseException) -> str:
    """Return the class of an error, and the innermost calls that led to it."""
    frames = traceback.extract_tb(error.__traceback__)[-_NUM_FRAMES:]
    calls = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return f"unexpected {type(error).__name__} ({', '.join(calls)})"


def hide_messages() -> None:
    """Let Gradio log errors of handlers and requests by `QuietTraceback`."""
    from gradio import queueing, route_utils, routes

    for module in (queueing, route_utils, routes):
        module.traceback = QuietTraceback()  # type: ignore[attr-defined]
