"""The loopback Hub: a threaded server, its log, and the client's environment."""

import hashlib
import secrets
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from support.hub_server import account, commits, repos, transfer
from support.hub_server.faults import Faults
from support.hub_server.people import TOKENS, Refusal, Token, identify
from support.hub_server.store import Repo, Store
from support.hub_server.wire import Answer, Handler, Request

_ROUTES = (account.route, transfer.route, commits.route, repos.route)


@dataclass(frozen=True)
class Logged:
    """A logged request."""

    method: str
    target: str
    user: str | None

    @property
    def path(self) -> str:
        return urlsplit(self.target).path


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    hub: "LoopbackHub"

    def handle_error(self, request: object, client_address: object) -> None:
        self.hub.on_error()


class LoopbackHub:
    """A Hub on a free port of 127.0.0.1, which serves until the `with` block ends."""

    def __init__(
        self,
        root: Path,
        *,
        page_size: int = 1000,
        part_size: int | None = None,
        xet: bool = False,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        """Create the server; `certificate`, a PEM file and its key, enables TLS."""
        self.store, self.faults = Store(root), Faults()
        self.page_size = page_size
        """Number of tree entries or commits per response."""
        self.part_size = part_size
        """LFS files above this size in bytes are uploaded in parts; None disables that."""
        self.xet = xet
        """Whether to advertise xet. It never works, as for a Hub behind a firewall."""
        self.log: list[Logged] = []
        self.errors: list[str] = []
        """Tracebacks of errors in this server; any entry fails the test."""
        self._key = self._secret(root)
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.hub = self
        self._scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._scheme = "https"
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )

    @staticmethod
    def _secret(root: Path) -> str:
        """Return the key that signs upload URLs; it survives a restart."""
        place = root / "signing_key"
        root.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            place.write_text(secrets.token_hex(16))
        return place.read_text()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def env(self, token: str | None = "alice", *, home: Path) -> dict[str, str]:
        """Return the environment that a client process needs; `home` holds its caches.

        `token` is alice, reader, fine, carol, bob, any other text for an invalid token, or None.
        """
        env = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_DATASETS_CACHE": str(home / "datasets"),
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "GRADIO_ANALYTICS_ENABLED": "False",
        }
        return {**env, "HF_TOKEN": f"hf_{token}"} if token else env

    def repo(self, repo_type: str, repo_id: str) -> Repo:
        """Return a repository for inspection; `repo_type` is model, dataset, or space."""
        return self.store.repo(f"{repo_type}s", repo_id)

    def sent(self, method: str, part: str = "") -> list[str]:
        """Return the paths of requests with the given method that contain `part`."""
        return [r.target for r in self.log if r.method == method and part in r.target]

    def on_error(self) -> None:
        import sys
        import traceback

        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError | TimeoutError | ssl.SSLError):
            self.errors.append(traceback.format_exc())

    # Used by handlers

    def sign(self, path: str) -> str:
        """Sign an upload URL that needs no token."""
        return f"{self.url}{path}?signature={self._signature(path)}"

    def require_signature(self, request: Request) -> None:
        path = urlsplit(request.target).path
        if request.query.get("signature") != [self._signature(path)]:
            raise Refusal(403, "SignatureDoesNotMatch")
        if "authorization" in request.headers:
            raise Refusal(400, "A signed address takes no token: it must not leave the Hub")

    def _signature(self, path: str) -> str:
        return hashlib.sha256(f"{self._key} {path}".encode()).hexdigest()[:32]

    def answer(self, request: Request) -> Answer:
        """Answer a request; raise Refusal for every error that a client should see."""
        path = urlsplit(request.target).path
        header = request.headers.get("authorization")
        known = TOKENS.get((header or "").removeprefix("Bearer "))
        self.log.append(Logged(request.method, request.target, known.user if known else None))
        if rule := self.faults.status_for(request.method, path):
            message = rule.message or f"a fault on demand: {rule.status}"
            raise Refusal(rule.status, message, headers=dict(rule.headers))
        self.faults.wait_at_gate(request.method, path)
        token = None if request.parts[0] == "uploads" else identify(header)
        for route in _ROUTES:
            if handler := route(request):
                return handler(self, request, token)
        raise Refusal(404, f"The loopback Hub knows no {request.method} {path}")


Route = Callable[[LoopbackHub, Request, Token | None], Answer]
