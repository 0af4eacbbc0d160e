"""Isolate uploads from each other, and block routes that the page never uses.

Gradio names an upload's folder by its content, so two visitors with the same image share a file,
and deleting it for one deletes it for the other. `UploadIsolation` gives each request its own
folder. `BlockedRoutes` closes Gradio's routes that the page does not use, `BodyLimit` bounds what a
client can make the server hold in memory, and `MalformedRequests` answers requests that Gradio
cannot handle.
"""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from hf_wbc.escape import plain_text

if TYPE_CHECKING:
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


_log = logging.getLogger(__name__)
PATHS = ("/gradio_api/upload", "/upload")
MAX_LOGGED = 200
"""Characters of an address that are logged."""


class UploadIsolation:
    """Handle uploads with Gradio's own parser, each in a new folder in `root`."""

    def __init__(self, app: "ASGIApp", root: Path, max_bytes: int, total_bytes: int) -> None:
        self.app, self.root = app, root
        self.max_bytes, self.total_bytes = max_bytes, total_bytes
        self.num_arriving = 0
        """Bytes of the uploads that are being received."""

    @classmethod
    def entry(cls, root: Path, max_bytes: int, total_bytes: int) -> "Middleware":
        """A middleware entry; limits in bytes for one file and for all pending uploads."""
        from starlette.middleware import Middleware

        return Middleware(cls, root=root, max_bytes=max_bytes, total_bytes=total_bytes)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Handle an upload; pass other requests on."""
        is_upload = scope["type"] == "http" and scope["method"] == "POST"
        if not (is_upload and scope["path"] in PATHS):
            await self.app(scope, receive, send)
            return
        from starlette.requests import Request

        num_mine, num_held = 0, _size(self.root)

        async def counted() -> "Message":
            nonlocal num_mine
            message = await receive()
            num_mine += len(message.get("body", b""))
            self.num_arriving += len(message.get("body", b""))
            if num_held + self.num_arriving > self.total_bytes:
                raise _BodyTooLarge
            return message

        try:
            response = await self._take(Request(scope, counted), num_held)
        finally:
            self.num_arriving -= num_mine
        await response(scope, receive, send)

    async def _take(self, request: "Request", num_held: int) -> "Response":
        from gradio.route_utils import upload_fn
        from gradio.routes import file_upload_statuses as progress
        from starlette.exceptions import HTTPException
        from starlette.formparsers import MultiPartException
        from starlette.requests import ClientDisconnect
        from starlette.responses import JSONResponse, PlainTextResponse

        if num_held + self.num_arriving > self.total_bytes:
            return PlainTextResponse(
                "too many uploads are pending; try again in a few minutes", 503
            )
        folder = self.root / uuid4().hex
        upload = request.query_params.get("upload_id")
        try:
            folder.mkdir()
            found, _, _ = await upload_fn(
                request,
                str(folder),
                self.max_bytes,
                upload,
                upload_progress=progress if upload else None,
            )
        except MultiPartException as error:
            _remove(folder)
            is_large = "maximum allowed size" in error.message
            return PlainTextResponse(error.message, 413 if is_large else 400)
        except HTTPException as error:
            _remove(folder)
            return PlainTextResponse(error.detail, error.status_code)
        except _BodyTooLarge:
            _remove(folder)
            return PlainTextResponse("more than this page can hold; upload less at a time", 413)
        except ClientDisconnect:
            _remove(folder)
            return PlainTextResponse("the upload was interrupted", 400)
        except OSError as error:
            _remove(folder)
            _log.error("an upload cannot be stored: %s", error.strerror)
            return PlainTextResponse("the server cannot store uploads now; try again later", 507)
        request.app.get_blocks().upload_file_set.update(
            found
        )  # Gradio deletes unclaimed files by age
        return JSONResponse([str(path) for path in found])


def _remove(folder: Path) -> None:
    from hf_wbc.records import remove

    remove(folder)


def _size(folder: Path) -> int:
    """Bytes of all files below; files and folders may disappear meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):  # skips folders that disappear
        for name in names:
            with suppress(OSError):
                total += (Path(place) / name).stat().st_size
    return total


class BlockedRoutes:
    """Answer 403 to paths that start with one of `prefixes`, before Gradio handles them."""

    def __init__(self, app: "ASGIApp", prefixes: Sequence[str]) -> None:
        self.app, self.prefixes = app, tuple(prefixes)

    @classmethod
    def entry(cls, prefixes: Sequence[str]) -> "Middleware":
        """A middleware entry."""
        from starlette.middleware import Middleware

        return Middleware(cls, prefixes=prefixes)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a blocked request; pass others on."""
        if scope["type"] == "http" and scope["path"].startswith(self.prefixes):
            from starlette.responses import PlainTextResponse

            response = PlainTextResponse("This page does not offer that.", status_code=403)
            await response(scope, receive, send)
            return
        await self.app(scope, receive, send)


class BodyLimit:
    """Answer 413 to requests with a larger body; uploads have limits of their own."""

    def __init__(self, app: "ASGIApp", max_bytes: int) -> None:
        self.app, self.max_bytes = app, max_bytes

    @classmethod
    def entry(cls, max_bytes: int) -> "Middleware":
        """A middleware entry."""
        from starlette.middleware import Middleware

        return Middleware(cls, max_bytes=max_bytes)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Pass a request on while its body is within the limit, whatever length it states."""
        if scope["type"] != "http" or scope["path"] in PATHS:
            await self.app(scope, receive, send)
            return
        from starlette.responses import PlainTextResponse

        num_bytes, sender = 0, _Sender(send)

        async def counted() -> "Message":
            nonlocal num_bytes
            message = await receive()
            num_bytes += len(message.get("body", b""))
            if num_bytes > self.max_bytes:
                raise _BodyTooLarge
            return message

        try:
            await self.app(scope, counted, sender)
        except _BodyTooLarge:
            if sender.has_started:
                raise
            response = PlainTextResponse("the request is too large", status_code=413)
            await response(scope, receive, send)


class _Sender:
    """Send messages, and note whether a response has started."""

    def __init__(self, send: "Send") -> None:
        self.send, self.has_started = send, False

    async def __call__(self, message: "Message") -> None:
        self.has_started = True
        await self.send(message)


class _BodyTooLarge(Exception):
    """The body of a request is larger than the limit."""


_UNKNOWN = ("FnIndexInferError",)
"""Names of Gradio's errors about an endpoint that it does not have."""


class MalformedRequests:
    """Answer requests for unknown endpoints, or with malformed bodies, without an error of ours.

    Gradio looks up what a client names without checking, so that such a request would be answered
    with 500 and a traceback in the log.
    """

    def __init__(self, app: "ASGIApp") -> None:
        self.app = app

    @classmethod
    def entry(cls) -> "Middleware":
        """A middleware entry."""
        from starlette.middleware import Middleware

        return Middleware(cls)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Pass a request on; answer 404 or 400 if that fails before a response starts."""
        sender = _Sender(send)
        try:
            await self.app(scope, receive, sender)
        except Exception as error:
            if sender.has_started or scope["type"] != "http":
                raise
            from starlette.responses import JSONResponse

            is_unknown = isinstance(error, LookupError) or type(error).__name__ in _UNKNOWN
            reason = "no such endpoint" if is_unknown else "the request is malformed"
            path = plain_text(scope["path"])[:MAX_LOGGED]
            _log.warning("%s %s: %s", scope["method"], path, type(error).__name__)
            response = JSONResponse({"error": reason}, 404 if is_unknown else 400)
            await response(scope, receive, send)
