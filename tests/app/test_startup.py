"""The app opens before its model is loaded, and predicts as soon as it is loaded."""

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the page needs the extra app")

from hf_wbc.app.startup import TOY
from hf_wbc.shipped import shipped

NUM_VISITORS = 45
"""More visitors than the server has threads."""
LATE = f"""
import sys, time
HEAVY = "torch", "transformers", "matplotlib.figure", "scipy"
from pathlib import Path
from hf_wbc.app.launch import keep_private, launch
from hf_wbc.app.startup import load_in_background, make_service

service = make_service({str(shipped(TOY))!r}, (), {{}})
with keep_private():
    page, url = launch(service, "127.0.0.1", None)
    print("open", url, flush=True)
    while not Path("go").exists():
        time.sleep(0.05)
    print([name for name in HEAVY if name in sys.modules])
    load_in_background(service, print)
    page.block_thread()
"""
LIGHT = """
import sys
HEAVY = "torch", "transformers", "matplotlib.figure", "scipy"
from hf_wbc.app.launch import keep_private

opened = []
sys.addaudithook(lambda event, given: opened.append(str(given[0])) if event == "open" else None)
with keep_private():
    import hf_wbc.app.blocks
print([name for name in HEAVY if name in sys.modules])
print([path for path in opened if path.endswith(".pyi")])
"""
DEMO = "import sys; from hf_wbc.cli.main import main; sys.exit(main())"


def arrive(url: str, number: int) -> str:
    """Return what the browser requests on opening, and receives once the model is loaded."""
    import httpx

    events = httpx.get(f"{url}/config", timeout=120).json()["dependencies"]
    ids = [each["id"] for each in events if any(kind == "load" for _, kind in each["targets"])]
    given = {"data": [], "fn_index": ids[-1], "session_hash": f"visitor{number}"}
    return httpx.post(f"{url}/gradio_api/run/predict", json=given, timeout=240).text


@contextmanager
def crowd(url: str) -> Iterator[None]:
    """Have visitors wait for the model; the page stays reachable, and all are answered."""
    import httpx

    with ThreadPoolExecutor(NUM_VISITORS) as pool:
        waiting = [pool.submit(arrive, url, number) for number in range(NUM_VISITORS)]
        assert httpx.get(f"{url}/theme.css", timeout=120).status_code == 200
        assert not any(one.done() for one in waiting)
        yield
        assert all("not a medical device" in one.result() for one in waiting)


@pytest.mark.slow
@pytest.mark.ci
def test_page_answers_in_spite_of_proxies(serve: Callable[..., Any]) -> None:
    """Gradio's import alone fails with a SOCKS proxy, unless the package socksio is installed."""
    import httpx

    proxies = {"ALL_PROXY": "socks5://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    command = sys.executable, "-c", DEMO, "demo", "--model", str(shipped(TOY)), "--port", "0"
    url = serve(*command, **proxies).url
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"{url}/gradio_api/info", timeout=120).status_code == 200


@pytest.mark.slow
@pytest.mark.ci
def test_early_visitors_wait_for_model(
    serve: Callable[..., Any], open_window: Callable[..., Any]
) -> None:
    late = serve(sys.executable, "-c", LATE)
    context = open_window()
    page = context.new_page()
    with crowd(late.url):
        try:
            come_early(page, late.url)
        finally:
            (late.log.parent / "go").touch()
    page.locator("#about table").first.wait_for()
    page.locator("#loading >> text=The model is still loading").wait_for(state="detached")
    page.get_by_role("tab", name="One cell").click()
    page.locator("#one-result article").wait_for()
    page.get_by_role("tab", name="Many cells").click()
    page.locator(".review .card").first.wait_for()
    context.close()
    # Nothing imports the model's dependencies before loading: concurrent imports can fail.
    assert late.log.read_text().splitlines()[1] == "[]"


def come_early(page: Any, url: str) -> None:
    """Use every tab before the model is loaded."""
    page.goto(url)
    page.locator("#loading >> text=The model is still loading").wait_for()
    page.locator("#wbc-say >> text=The model is still loading").wait_for(state="attached")
    page.get_by_role("tab", name="Does it fit my laboratory?").click()
    page.locator("#domains-go").click()
    page.locator("#domains-result >> text=It needs at least 5 cells").wait_for()
    page.get_by_role("tab", name="One cell").click()
    page.get_by_role("button", name="eosinophil").click()
    page.locator("#one-result >> text=processing").wait_for()
    page.get_by_role("tab", name="Many cells").click()
    page.locator("#many-toy").click()
    page.locator("#many-status >> text=processing").wait_for()
    page.get_by_role("tab", name="About").click()
    assert page.locator("#about table").count() == 0


@pytest.mark.slow
@pytest.mark.ci
def test_page_starts_without_model_libraries_or_stub_files() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert done.stdout.split() == ["[]", "[]"], done.stderr


@pytest.mark.parametrize(
    "how",
    [signal.SIGTERM, pytest.param(signal.SIGINT, marks=(pytest.mark.slow, pytest.mark.ci))],
)
@pytest.mark.slow
@pytest.mark.ci
def test_server_stops_on_signal_while_loading(how: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DEMO, "demo", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None and server.stderr is not None
        next(line for line in server.stdout if re.match("open http", line))
        server.send_signal(how)
        assert server.wait(timeout=120) == 130
        assert server.stderr.read() == "hf-wbc: interrupted\n"
