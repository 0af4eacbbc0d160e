"""Uploads that arrive and are deleted concurrently."""

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the page needs the extra app")

from starlette.requests import Request

from hf_wbc.app.middleware import (
    BlockedRoutes,
    BodyLimit,
    MalformedRequests,
    UploadIsolation,
    _size,
)


def in_own_thread(work: Coroutine[Any, Any, Any]) -> Any:
    """Run in another thread: a browser that is open keeps an event loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def test_folder_size_tolerates_concurrent_deletion(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "cell.png").write_bytes(b"0" * 100)
    done = threading.Event()

    def come_and_go(name: str) -> None:
        while not done.is_set():
            folder = tmp_path / name / "deep"
            folder.mkdir(parents=True)
            (folder / "cell.png").write_bytes(b"0" * 100)
            shutil.rmtree(tmp_path / name)

    others = [threading.Thread(target=come_and_go, args=(str(number),)) for number in range(4)]
    for other in others:
        other.start()
    try:
        sizes = [_size(tmp_path) for _ in range(500)]
    finally:
        done.set()
        for other in others:
            other.join()
    assert set(sizes) <= {100, 200, 300, 400, 500}


def test_url_cannot_forge_log_lines(caplog: pytest.LogCaptureFixture) -> None:
    async def failing(*_: object) -> None:
        raise KeyError("x")

    sent = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/run/a\nINFO forged\x1b[2K" + "x" * 5000}
    in_own_thread(MalformedRequests(failing)(scope, None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 404
    (record,) = caplog.records
    assert "\n" not in record.getMessage() and "\x1b" not in record.getMessage()
    assert len(record.getMessage()) < 300


def test_full_disk_is_reported_as_server_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gradio.route_utils.upload_fn", full)
    isolation = UploadIsolation(None, tmp_path, 10**6, 10**6)  # type: ignore[arg-type]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/upload",
        "query_string": b"",
        "headers": [],
    }
    response = in_own_thread(isolation._take(Request(scope), 0))
    assert response.status_code == 507 and b"try again later" in response.body
    assert not list(tmp_path.iterdir())


def answer_of(app: Any, path: str, chunks: int = 0, method: str = "POST", **headers: str) -> Any:
    """Send a request whose body comes in chunks of 1000 bytes; return status and chunks sent."""
    sent: list[dict[str, Any]] = []
    num = 0

    async def receive() -> dict[str, Any]:
        nonlocal num
        num += 1
        body = headers.get("start", "").encode() if num == 1 else b"x" * 1000
        return {"type": "http.request", "body": body, "more_body": num < chunks}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "query_string": b"",
        "headers": [(b"content-type", headers.get("kind", "application/json").encode())],
    }  # fmt: skip
    in_own_thread(app(scope, receive, send))
    return sent[0]["status"], num


async def reads_all(scope: Any, receive: Any, send: Any) -> None:
    from starlette.responses import PlainTextResponse

    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


@pytest.mark.parametrize("path", ["/gradio_api/queue/join", "/gradio_api/upload/", "/login"])
def test_endless_body_is_not_held_in_memory(path: str) -> None:
    app = BodyLimit(reads_all, 10_000)
    assert answer_of(app, path, 5)[0] == 200
    assert answer_of(app, path, 1_000_000) == (413, 12)
    assert answer_of(app, "/gradio_api/upload", 50)[0] == 200, "it has a limit of its own"


def test_one_upload_cannot_fill_the_disk(tmp_path: Path) -> None:
    isolation = UploadIsolation(reads_all, tmp_path, 10**6, 50_000)
    start = '--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    kind = "multipart/form-data; boundary=b"
    status, num = answer_of(isolation, "/gradio_api/upload", 10**6, start=start, kind=kind)
    assert (status, num) == (413, 51)
    assert not list(tmp_path.iterdir()) and isolation.num_arriving == 0


@pytest.mark.parametrize(
    "route",
    [
        "file=/etc/passwd",
        "file//etc/passwd",
        "deep_link",
        "vibe-edit",
        "component_server",
        "stream/1",
    ],
)
@pytest.mark.parametrize("prefix", ["/", "/gradio_api/"])
def test_routes_that_the_page_does_not_use_are_closed(route: str, prefix: str) -> None:
    from hf_wbc.app.launch import BLOCKED

    app = BlockedRoutes(reads_all, BLOCKED)
    for method in ("GET", "HEAD", "POST"):
        assert answer_of(app, prefix + route, method=method)[0] == 403
    assert answer_of(app, prefix + "config")[0] == 200


def test_no_other_route_of_gradio_serves_files_or_runs_code() -> None:
    """A new version of Gradio may have new routes: look at them, and block what is not used."""
    import gradio as gr
    from gradio.routes import App

    from hf_wbc.app.launch import BLOCKED

    with gr.Blocks() as blocks:
        pass
    routes = [*App.create_app(blocks).routes]
    for each in routes:  # routers are routes that hold others
        routes += getattr(getattr(each, "original_router", None), "routes", ())
    paths = {each.path for each in routes if hasattr(each, "path")}
    assert any(path.startswith("/gradio_api/file=") for path in paths), "the routes are listed"
    open_ = {path.rstrip("/") for path in paths if not path.startswith(BLOCKED)}
    assert open_ <= KNOWN, sorted(open_ - KNOWN)


KNOWN = {
    "", "/assets/{path:path}", "/config", "/favicon.ico", "/gradio_api/api/{api_name}",
    "/gradio_api/app_id", "/gradio_api/call/v2/{api_name}",
    "/gradio_api/call/v2/{api_name}/{event_id}", "/gradio_api/call/{api_name}",
    "/gradio_api/call/{api_name}/{event_id}", "/gradio_api/cancel",
    "/gradio_api/heartbeat/{session_hash}", "/gradio_api/info", "/gradio_api/login_check",
    "/gradio_api/openapi.json", "/gradio_api/queue/data", "/gradio_api/queue/join",
    "/gradio_api/queue/status", "/gradio_api/reset", "/gradio_api/run/{api_name}",
    "/gradio_api/startup-events", "/gradio_api/theme.css", "/gradio_api/token",
    "/gradio_api/upload", "/gradio_api/upload_progress", "/gradio_api/user", "/login", "/logout",
    "/manifest.json", "/openapi.json", "/pwa_icon", "/pwa_icon/{size}", "/robots.txt",
    "/static/{path:path}", "/svelte/{path:path}", "/theme.css",
}  # fmt: skip
"""Routes without files of the server, addresses to fetch, or code."""
