"""A browser, and the app served by a separate process without network access."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.chromium import chromium

if find_spec("gradio") is None:  # importing gradio takes seconds, and few tests need it
    pytest.skip("the page needs the extra app", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "spaces" / "wbc" / "toy_model"
START_SECONDS = 180
HF_WBC = (sys.executable, "-c", "import sys; from hf_wbc.cli.main import main; sys.exit(main())")
STILL = """
const still = new CSSStyleSheet();
still.replaceSync(
  "*, *::before, *::after { animation: none !important; transition: none !important; }");
document.adoptedStyleSheets = [...document.adoptedStyleSheets, still];
"""
# Python imports this module at startup; it restricts connections to the local machine.
GUARD = """
import os, socket

connect = socket.socket.connect

def guarded(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
        with open(os.environ["REACHED"], "a") as file:
            print(address, file=file)
        raise OSError("no network here")
    return connect(self, address)

socket.socket.connect = guarded
"""


@dataclass(frozen=True)
class Served:
    """A running app."""

    url: str
    process: subprocess.Popen[str]
    temporary: Path
    """Folder where the process may write temporary files."""
    reached: Path
    """File that lists the addresses the process tried to reach; absent if there were none."""
    log: Path

    def left_behind(self) -> list[Path]:
        """Return the files that the app holds on disk."""
        return [path for path in self.temporary.rglob("*") if path.is_file()]


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """Start apps; all of them stop when the session ends."""
    started: list[Served] = []

    def start(*command: str, cwd: Path | None = None, **variables: str) -> Served:
        place = tmp_path_factory.mktemp("served")
        served = _start(place, command, cwd or place, variables)
        started.append(served)
        return served

    yield start
    for served in started:  # at once; test_startup.py and test_launch.py stop them gently
        served.process.kill()
    for served in started:
        served.process.wait()


@pytest.fixture(scope="session")
def served(serve: Callable[..., Served]) -> Served:
    """Serve the toy model, without any other model."""
    return serve(*HF_WBC, "demo", "--model", str(TOY), "--port", "0")


@pytest.fixture(scope="session")
def served_shipped(serve: Callable[..., Served]) -> Served:
    """Serve the shipped model, which knows real cells."""
    return serve(*HF_WBC, "demo", "--port", "0")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Start a real Chromium; skip if there is none."""
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def open_window(browser: Any) -> Callable[..., Any]:
    """Open a browser window without animations, which cost more time than all tests."""

    def opened(**options: Any) -> Any:
        context = browser.new_context(reduced_motion="reduce", **options)
        context.set_default_timeout(120_000)
        context.add_init_script(STILL)
        return context

    return opened


@pytest.fixture(scope="session")
def window(open_window: Callable[..., Any]) -> Iterator[Any]:
    """Open the window of `page`; its cache spares every test the loading of Gradio's scripts."""
    context = open_window(viewport={"width": 1280, "height": 720}, accept_downloads=True)
    yield context
    context.close()


@pytest.fixture
def page(window: Any, served: Served) -> Iterator[Any]:
    """Open the app in a new 1280 px wide tab; requests to other hosts fail the test."""
    tab = window.new_page()
    elsewhere: list[str] = []
    own = (served.url, "data:", "blob:")
    tab.on("request", lambda r: None if r.url.startswith(own) else elsewhere.append(r.url))
    tab.goto(served.url)
    tab.wait_for_selector("#one-drop")
    yield tab
    tab.evaluate("localStorage.clear(); sessionStorage.clear()")
    window.clear_cookies()
    for each in window.pages:
        each.close()
    assert elsewhere == []


def _start(place: Path, command: tuple[str, ...], cwd: Path, variables: dict[str, str]) -> Served:
    guard, temporary = place / "guard", place / "tmp"
    guard.mkdir()
    temporary.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD)
    paths = [str(guard), *variables.pop("PYTHONPATH", str(ROOT)).split(os.pathsep)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "TMPDIR": str(temporary),
        "MPLCONFIGDIR": str(place / "matplotlib"),
        "HF_HOME": str(place / "hf"),
        "REACHED": str(place / "reached"),
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    log = place / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=output, stderr=output, text=True
        )
    end = time.monotonic() + START_SECONDS
    while not (found := re.search(r"open (http\S+)", log.read_text())):
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            raise AssertionError(f"the page did not open: {log.read_text()}")
        time.sleep(0.1)
    return Served(found[1].rstrip("/"), process, temporary, place / "reached", log)
