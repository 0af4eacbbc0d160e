"""Concurrent uploads that arrive and are deleted."""

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

from hf_wbc.app.middleware import MalformedRequests, UploadIsolation, _size


def in_own_thread(work: Coroutine[Any, Any, Any]) -> Any:
    """Run in another thread: a browser that is open keeps an event loop running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def test_uploads_are_weighed_while_others_are_deleted(tmp_path: Path) -> None:
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


def test_an_address_cannot_forge_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_full_disk_is_not_the_visitors_mistake(
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
    response = in_own_thread(isolation._take(Request(scope)))
    assert response.status_code == 507 and b"try again later" in response.body
    assert not list(tmp_path.iterdir())
