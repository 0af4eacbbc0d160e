"""HTTP/1.1 for the loopback Hub: requests and responses, streamed bodies, and byte counting."""

import io
import json
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from support.hub_server.faults import Cut, Faults
from support.hub_server.people import Refusal

CHUNK = 65536


@dataclass
class Request:
    """A request. The path is split before its parts are decoded: `refs%2Fpr%2F1` is one part."""

    method: str
    target: str
    headers: dict[str, str]
    stream: BinaryIO
    length: int
    parts: list[str] = field(init=False)
    query: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        split = urlsplit(self.target)
        self.parts = [unquote(part) for part in split.path.strip("/").split("/")]
        self.query = parse_qs(split.query)
        self.headers = {name.lower(): value for name, value in self.headers.items()}

    def flag(self, name: str) -> bool:
        return self.query.get(name, ["false"])[0].lower() in ("true", "1")

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in chunks."""
        while self.length > 0:
            piece = self.stream.read(min(CHUNK, self.length))
            if not piece:
                raise Cut
            self.length -= len(piece)
            yield piece

    def body(self) -> bytes:
        return b"".join(self.chunks())

    def json(self) -> Any:
        return json.loads(self.body() or b"{}")


@dataclass
class Answer:
    """A response: JSON, bytes, or part of a file."""

    value: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    file: tuple[Path, int, int] | None = None
    """Path, offset, and number of bytes."""

    def body(self) -> bytes:
        if self.value is None:
            return b""
        return self.value if isinstance(self.value, bytes) else json.dumps(self.value).encode()


class _CountedReads(io.RawIOBase):
    def __init__(self, connection: socket.socket, faults: Faults) -> None:
        self._connection, self._faults = connection, faults

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        if not isinstance(self._connection, ssl.SSLSocket):
            self._connection.recv(1, socket.MSG_PEEK)  # a cut may be ordered while idle
        number = self._connection.recv_into(view[: self._faults.room(len(view))])
        self._faults.count(number)
        return number


class _CountedWrites(io.BufferedIOBase):
    def __init__(self, connection: socket.socket, faults: Faults) -> None:
        self._connection, self._faults = connection, faults

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data)
        sent = 0
        while sent < len(view):
            room = self._faults.room(len(view) - sent)
            self._connection.sendall(view[sent : sent + room])
            self._faults.count(room)
            sent += room
        return sent


class Handler(BaseHTTPRequestHandler):
    """Reads a request, asks `server.hub` for the response, and writes it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def setup(self) -> None:
        super().setup()
        faults = self.server.hub.faults
        self.rfile = io.BufferedReader(_CountedReads(self.connection, faults), CHUNK)
        self.wfile = _CountedWrites(self.connection, faults)

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self._reset()

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()

    def _reset(self) -> None:
        """Reset the connection without a response, as when the network fails."""
        with suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(self.command, self.path, dict(self.headers), self.rfile, length)
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            request.stream = io.BytesIO(body := self._unchunk())
            request.length = len(body)
        try:
            answer = self.server.hub.answer(request)
        except Refusal as refusal:
            answer = refused(refusal)
        for _ in request.chunks():  # drain what a refused request left unread
            pass
        self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _unchunk(self) -> bytes:
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, answer: Answer) -> None:
        body = answer.body()
        self.send_response(answer.status)
        headers = {"Content-Type": "application/json", **answer.headers}
        headers.setdefault("Content-Length", str(answer.file[2] if answer.file else len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if answer.file:
            path, offset, left = answer.file
            with path.open("rb") as file:
                file.seek(offset)
                while left > 0:
                    piece = file.read(min(CHUNK, left))
                    self.wfile.write(piece)
                    left -= len(piece)
        else:
            self.wfile.write(body)


def refused(refusal: Refusal) -> Answer:
    """Format an error as the Hub does."""
    headers = {"X-Error-Message": refusal.message, **refusal.headers}
    if refusal.code:
        headers["X-Error-Code"] = refusal.code
    return Answer({"error": refusal.message}, refusal.status, headers)
