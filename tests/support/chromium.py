"""A real Chromium for tests of pages; they skip where there is none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

_opened: list[Any] = []


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser, or use the one that runs: a process can have only one.

    Skips the test if there is none.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright installed")
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no chromium on this machine")
    if _opened:
        yield _opened[0]
        return
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=found, args=list(FLAGS))
        _opened.append(opened)
        try:
            yield opened
        finally:
            _opened.clear()
            opened.close()
