"""Serve the page: no telemetry, no outgoing requests, uploads in a private temporary folder."""

import inspect
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_wbc.data.proxies import direct_loopback, without_proxies
from hf_wbc.records import remove, remove_abandoned, temporary_sibling

if TYPE_CHECKING:
    from gradio import Blocks
    from starlette.middleware import Middleware

    from hf_wbc.app.limits import Limits
    from hf_wbc.app.service import Service

PRIVATE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    # Gradio reads it at every event; without a value, it imports all of matplotlib.
    "MPLBACKEND": "agg",
}
UNUSED = (
    "component_server", "custom_component", "deep_link", "dev/", "file/", "file=", "monitoring",
    "process_recording", "profiling", "proxy=", "run-history", "runs", "stream/", "undo-vibe",
    "vibe",
)  # fmt: skip
"""Starts of Gradio's routes that the page does not use, after the prefix of its API.

They serve files, proxy requests to other servers, store recordings and states of sessions, or
change the page's code.
"""
BLOCKED = tuple(f"{prefix}{route}" for prefix in ("/", "/gradio_api/") for route in UNUSED)
BODY_BYTES = 2**22
"""Largest body of a request besides uploads; a review of 1000 cells has about 2**16 bytes."""


@contextmanager
def keep_private() -> Iterator[Path]:
    """Import Gradio in a private environment; yields the folder of the uploads.

    Folders that killed servers left behind are deleted first, and the folder itself at the end.
    SIGTERM, which stops containers, ends the block like Ctrl-C.
    """
    place = Path(tempfile.gettempdir()) / f"hf_wbc_demo_{os.getuid()}"
    remove_abandoned(place)
    folder = temporary_sibling(place)
    handler = signal.getsignal(signal.SIGINT)  # it may wait for the end of an import
    before = signal.signal(
        signal.SIGTERM, handler if callable(handler) else signal.default_int_handler
    )
    try:
        folder.mkdir(mode=0o700)
        os.environ.update(PRIVATE, GRADIO_TEMP_DIR=str(folder))
        with without_proxies(os.environ):  # Gradio creates clients when it is imported
            _import_gradio()
        yield folder
    finally:
        signal.signal(signal.SIGTERM, before)
        remove(folder)
        os.environ.pop("GRADIO_TEMP_DIR", None)


def _import_gradio() -> None:
    """Import Gradio without letting it write stub files.

    On import, Gradio reads the source of its components and writes stubs for editors next to them.
    That takes half of the import time and fails in a read-only installation. Gradio skips
    components whose file is unknown.
    """
    file_of = inspect.getfile

    def getfile(thing: Any) -> str:
        if str(getattr(thing, "__module__", "")).partition(".")[0] == "gradio":
            raise OSError("no stubs")
        return file_of(thing)

    inspect.getfile = getfile  # type: ignore[assignment]
    try:
        import gradio  # noqa: F401
        import matplotlib  # noqa: F401 (Gradio's events would, while others import its rest)
    finally:
        inspect.getfile = file_of
    from hf_wbc.app.error_log import hide_messages

    hide_messages()


def launch(service: "Service", host: str, port: int | None, mcp: bool = False) -> tuple[Any, str]:
    """Serve the page in another thread.

    Call this inside `keep_private`, before anything else imports Gradio.

    Args:
        service: The models and limits of the page.
        host: Address to listen on.
        port: Port to listen on; None takes a free one.
        mcp: Also serve the public endpoints as tools of the Model Context Protocol, under
            /gradio_api/mcp/.

    Returns:
        The blocks and the address of the page.

    Raises:
        ValueError: If the port is taken.
    """
    from hf_wbc.app.blocks import build_page, theme
    from hf_wbc.app.html_fragments import page_head
    from hf_wbc.app.sessions import Sessions, session_cleanup

    limits = service.limits
    sessions = Sessions(limits)
    page = build_page(service, sessions)
    keep_messages(page)
    direct_loopback(os.environ, host)
    try:
        with without_proxies(os.environ):  # Gradio asks the page whether it is up
            _, url, _ = page.launch(
                server_name=host,
                server_port=port,
                share=False,
                mcp_server=mcp,
                quiet=True,
                prevent_thread_lock=True,
                show_error=False,  # unexpected errors stay in the log
                footer_links=["api"],
                run_history=False,
                max_file_size=limits.total_bytes,
                state_session_capacity=1000,
                enable_monitoring=False,
                theme=theme(),
                # Gradio's own `css` parameter would scope `.dark` to a part of the page.
                head=page_head(),
                app_kwargs={
                    "lifespan": session_cleanup(page, sessions, limits),
                    "middleware": _middleware(limits),
                },
            )
    except OSError as error:
        raise ValueError(
            f"port {port} of {host} is taken, or may not be opened; choose another --port"
        ) from error
    return page, url


def keep_messages(page: "Blocks") -> None:
    """Let events be answered whose session Gradio has dropped.

    Gradio keeps the messages of 2,000 sessions. If an event of an older one still waits, the only
    task that runs events ends with a KeyError, and nobody is answered from then on.
    """
    from asyncio import Queue

    from gradio.utils import LRUCache

    class Messages(LRUCache[str, Queue[Any]]):
        def __missing__(self, session: str) -> Queue[Any]:
            self[session] = Queue()
            return self[session]

    events = page._queue
    events.pending_messages_per_session = Messages(events.pending_messages_per_session.max_size)


def _middleware(limits: "Limits") -> list["Middleware"]:
    """Everything that handles a request before Gradio does, in order."""
    from hf_wbc.app.middleware import (
        BlockedRoutes,
        BodyLimit,
        MalformedRequests,
        UploadIsolation,
    )

    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    return [
        MalformedRequests.entry(),
        BlockedRoutes.entry(BLOCKED),
        BodyLimit.entry(BODY_BYTES),
        UploadIsolation.entry(folder, limits.total_bytes, limits.held_bytes),
    ]
