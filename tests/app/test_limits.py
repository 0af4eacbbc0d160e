"""A page with tight limits: what is too much is refused in words, and nothing outlives it."""

import importlib.util
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_spec = importlib.util.spec_from_file_location("app_files", Path(__file__).with_name("files.py"))
files = importlib.util.module_from_spec(_spec)
sys.modules["app_files"] = files
_spec.loader.exec_module(files)

TIGHT = """
import sys
from hf_wbc.app.launch import launch, private
from hf_wbc.app.limits import Limits
from hf_wbc.app.start import find_model, make_desk
from pathlib import Path

limits = Limits(num_cells=40, total_bytes=2**20, seconds=0.0, abandoned_seconds=1)
desk = make_desk(find_model(None, Path("runs")), (), {}, limits)
with private():
    page, url = launch(desk, "127.0.0.1", None)
    print("open", url, flush=True)
    page.block_thread()
"""


@pytest.fixture(scope="module")
def tight(serve: Callable[..., Any]) -> Any:
    return serve(sys.executable, "-c", TIGHT)


@pytest.fixture(scope="module")
def client(tight: Any) -> Any:
    from gradio_client import Client

    return Client(tight.url, verbose=False)


def given(folder: Path, name: str, data: bytes) -> Any:
    from gradio_client import handle_file

    (folder / name).write_bytes(data)
    return handle_file(str(folder / name))


def upload(tight: Any, data: bytes) -> Any:
    """Send a file, and ask for nothing."""
    import httpx

    place = f"{tight.url}/gradio_api/upload"
    return httpx.post(place, files={"files": ("a.png", data)}, timeout=60)


def test_too_many_cells_are_refused_and_the_rest_is_counted(client: Any, tmp_path: Path) -> None:
    many = given(tmp_path, "many.zip", files.zipped({f"{i}.png": b"" for i in range(41)}))
    one = given(tmp_path, "one.png", files.encoded())
    answer = client.predict([many, one], "0.42", api_name="/count")
    assert [cell["image"] for cell in answer["cells"]] == ["one.png"]
    assert "41 files: more than this page takes" in answer["refused"][0]["why"]


def test_when_the_time_is_over_the_cells_that_are_left_are_counted(
    client: Any, tmp_path: Path
) -> None:
    slide = files.zipped({f"{i:02d}.png": files.encoded(seed=i) for i in range(40)})
    answer = client.predict([given(tmp_path, "s.zip", slide)], "0.42", api_name="/count")
    assert (len(answer["cells"]), answer["num_left"]) == (32, 8)


def test_a_file_beyond_the_limit_is_refused_before_it_is_held(tight: Any) -> None:
    reply = upload(tight, bytes(2**20 + 1))
    assert reply.status_code == 413 and "maximum allowed size" in reply.text
    assert not [path for path in tight.left_behind() if path.stat().st_size > 2**19]


def test_an_upload_that_nobody_asks_about_is_deleted(tight: Any, tmp_path: Path) -> None:
    (path,) = upload(tight, files.encoded()).json()
    assert Path(path).is_relative_to(tight.temporary)
    end = time.monotonic() + 60
    while Path(path).exists():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow  # opens the page once more
def test_nothing_is_on_disk_after_the_end_nor_after_a_kill(
    tight: Any, serve: Callable[..., Any], tmp_path: Path
) -> None:
    tight.process.send_signal(signal.SIGKILL)
    tight.process.wait()
    assert list(tight.temporary.glob(".hf_wbc_demo*"))  # what a killed process cannot delete
    again = serve(sys.executable, "-c", TIGHT, TMPDIR=str(tight.temporary))
    (folder,) = tight.temporary.glob(".hf_wbc_demo*")
    assert str(again.process.pid) in folder.name
    again.process.send_signal(signal.SIGINT)
    again.process.wait(60)
    assert not list(tight.temporary.glob(".hf_wbc_demo*"))
