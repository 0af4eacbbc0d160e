"""An app with tight limits rejects excessive input with a clear message and cleans up."""

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import app_files as files

from hf_wbc.app.startup import TOY
from hf_wbc.shipped import shipped

TIGHT = f"""
import gc, json, os, threading, time
from hf_wbc.app.launch import keep_private, launch
from hf_wbc.app.limits import Limits
from hf_wbc.app.sessions import Sessions
from hf_wbc.app.startup import load_in_background, make_service

limits = Limits(
    num_cells=40, total_bytes=2**20, held_bytes=2**21, seconds=-1.0, abandoned_seconds=3,
    grace_seconds=2.0,
)
service = make_service({str(shipped(TOY))!r}, (), {{}}, limits)
with keep_private():
    page, url = launch(service, "127.0.0.1", None)
    (sessions,) = [each for each in gc.get_objects() if isinstance(each, Sessions)]

    def tell():
        while True:
            names = list(page.state_holder.session_data)
            held = {{"num_bytes": sessions.num_bytes, "names": names}}
            with open("held.new", "w") as file:
                json.dump(held, file)
            os.replace("held.new", "held.json")
            time.sleep(0.1)

    threading.Thread(target=tell, daemon=True).start()
    print("open", url, flush=True)
    load_in_background(service, print)
    page.block_thread()
"""


@pytest.fixture(scope="module")
def tight(serve: Callable[..., Any]) -> Any:
    return serve(sys.executable, "-c", TIGHT)


@pytest.fixture(scope="module")
def client(tight: Any) -> Any:
    from gradio_client import Client

    client = Client(tight.url, verbose=False)
    client.predict(api_name="/about")  # the model is loaded, so no upload times out
    return client


def given(folder: Path, name: str, data: bytes) -> Any:
    from gradio_client import handle_file

    (folder / name).write_bytes(data)
    return handle_file(str(folder / name))


def upload(tight: Any, data: bytes) -> Any:
    """Upload a file without requesting a prediction."""
    import httpx

    place = f"{tight.url}/gradio_api/upload"
    return httpx.post(place, files={"files": ("a.png", data)}, timeout=60)


def test_excess_cells_are_refused_and_rest_counted(client: Any, tmp_path: Path) -> None:
    many = given(tmp_path, "many.zip", files.zipped({f"{i}.png": b"" for i in range(41)}))
    one = given(tmp_path, "one.png", files.encoded())
    prediction = client.predict([many, one], "0.42", api_name="/count")
    assert [cell["image"] for cell in prediction["cells"]] == ["one.png"]
    assert "41 files: more than this page accepts" in prediction["refused"][0]["why"]


def test_timeout_reports_number_of_uncounted_cells(client: Any, tmp_path: Path) -> None:
    slide = files.zipped({f"{i:02d}.png": files.encoded(seed=i) for i in range(40)})
    prediction = client.predict([given(tmp_path, "s.zip", slide)], "0.42", api_name="/count")
    assert (len(prediction["cells"]), prediction["num_left"]) == (32, 8)


def test_oversized_upload_is_refused_before_storing(tight: Any) -> None:
    reply = upload(tight, bytes(2**20 + 1))
    assert reply.status_code == 413 and "maximum allowed size" in reply.text
    assert not [path for path in tight.left_behind() if path.stat().st_size > 2**19]


def test_unused_upload_is_deleted(tight: Any, tmp_path: Path) -> None:
    (path,) = upload(tight, files.encoded()).json()
    assert Path(path).is_relative_to(tight.temporary)
    end = time.monotonic() + 60
    while Path(path).exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def held(tight: Any) -> dict[str, Any]:
    """Return the data that the server holds for its visitors."""
    found: dict[str, Any] = json.loads((tight.log.parent / "held.json").read_text())
    return found


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow  # opens a browser window
@pytest.mark.ci
@pytest.mark.usefixtures("client")  # which waits for the model: uploads soon count as abandoned
def test_leftover_cells_are_read_next_and_closed_page_is_forgotten(
    tight: Any, open_window: Callable[..., Any], tmp_path: Path
) -> None:
    wait_until(lambda: held(tight)["num_bytes"] == 0)
    others = set(held(tight)["names"])
    context = open_window()
    page = context.new_page()
    page.goto(tight.url)
    page.get_by_role("tab", name="Many cells").click()
    slide = files.zipped({f"{i:02d}.png": files.encoded(seed=i) for i in range(40)})
    given = {"name": "s.zip", "mimeType": "application/zip", "buffer": slide}
    page.locator("#many-scale input").fill("0.42")
    page.locator("#many-scale input").press("Enter")
    page.locator("#many-drop input[type=file]").set_input_files(given)
    page.wait_for_selector("#many-status >> text=8 cells are not predicted yet")
    page.locator("[data-cell='1']").click()
    page.keyboard.press("a")
    page.wait_for_selector("#many-count >> text=1 of them named by a person")
    page.get_by_role("button", name="Continue with the other 8").click()
    page.wait_for_selector("#many-status >> text=40 cells predicted")
    page.locator("[data-cell='40']").click()
    page.keyboard.press("a")
    page.wait_for_selector("#many-count >> text=2 of them named by a person")
    page.locator("#many-scale input").fill("0.5")
    page.locator("#many-scale input").press("Enter")
    page.wait_for_selector("#many-status >> text=your class for 1 of them is kept")
    page.locator("#many-go-on").click()
    page.wait_for_selector("#many-status >> text=40 cells predicted")
    assert page.locator("[data-group='0'] [data-cell='40']").count() == 1
    page.wait_for_selector("#many-count >> text=2 of them named by a person")

    pixels = 40 * files.SIDE**2 * 3
    wait_until(lambda: held(tight)["num_bytes"] == pixels)
    assert set(held(tight)["names"]) - others
    context.close()
    wait_until(lambda: held(tight)["num_bytes"] == 0)
    wait_until(lambda: set(held(tight)["names"]) <= others)


@pytest.mark.slow  # opens the app again
@pytest.mark.ci
def test_no_files_remain_after_exit_or_kill(
    tight: Any, serve: Callable[..., Any], tmp_path: Path
) -> None:
    tight.process.send_signal(signal.SIGKILL)
    tight.process.wait()
    assert list(tight.temporary.glob(".hf_wbc_demo*"))  # a killed process cannot delete these
    again = serve(sys.executable, "-c", TIGHT, TMPDIR=str(tight.temporary))
    (folder,) = tight.temporary.glob(".hf_wbc_demo*")
    assert str(again.process.pid) in folder.name
    again.process.send_signal(signal.SIGINT)
    again.process.wait(60)
    assert not list(tight.temporary.glob(".hf_wbc_demo*"))
