"""Undocumented parts of Gradio that the page relies on.

If one of these tests fails with a new version of Gradio, the page needs a change; the extra `app`
in pyproject.toml and the Space pin the versions for which they pass.
"""

import inspect
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

gr = pytest.importorskip("gradio", reason="the page needs the extra app")

ROOT = Path(__file__).parents[2]


def test_gradio_upload_fn_has_expected_signature() -> None:
    """`UploadIsolation` calls it with a folder of its own for each request."""
    from gradio.route_utils import upload_fn
    from gradio.routes import file_upload_statuses

    names = list(inspect.signature(upload_fn).parameters)
    assert names[0] == "request" and "upload_progress" in names and len(names) >= 5
    assert inspect.iscoroutinefunction(upload_fn)
    assert file_upload_statuses is not None


def test_gradio_sessions_and_upload_set_exist() -> None:
    """`session_cleanup` deletes closed sessions, and uploads are registered for deletion."""
    from gradio.state_holder import SessionState

    page = gr.Blocks()
    holder = page.state_holder
    assert holder.lock.acquire(timeout=1)
    holder.lock.release()
    assert len(holder.session_data) == 0 and len(holder.time_last_used) == 0
    assert SessionState(page).is_closed is False
    assert isinstance(page.upload_file_set, set)


def test_gradio_file_component_has_expected_methods() -> None:
    """`file_drop_box` replaces both, so that no address is fetched for a visitor."""
    from gradio.data_classes import FileData, ListFiles

    box = gr.File()
    assert inspect.iscoroutinefunction(box.async_move_resource_to_block_cache)
    assert callable(box.preprocess)
    files = ListFiles(root=[FileData(path="a.png", orig_name="b.png")])
    assert files.root[0].orig_name == "b.png"


def test_gradio_routes_to_block_or_replace_exist() -> None:
    from gradio.routes import App

    source = inspect.getsource(App.create_app)
    for route in ("/upload", "/file=", "/proxy="):
        assert route in source, f"Gradio has no route {route} any more"
    launched = inspect.signature(gr.Blocks.launch).parameters
    assert {"app_kwargs", "prevent_thread_lock", "max_file_size", "head"} <= launched.keys()


def test_gradio_pin_allows_only_tested_minor_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = [Requirement(line) for line in project["optional-dependencies"]["app"]]
    (gradio,) = (pin for pin in pins if pin.name == "gradio")
    assert gradio.specifier.contains(version("gradio"))
    major, minor = re.match(r"(\d+)\.(\d+)", version("gradio")).groups()  # type: ignore[union-attr]
    assert not gradio.specifier.contains(f"{major}.{int(minor) + 1}.0"), (
        "its next minor is untested"
    )


def test_waiting_event_of_a_dropped_session_gets_its_messages() -> None:
    """Gradio drops the oldest sessions; without `keep_messages`, its queue would end there."""
    from asyncio import Queue
    from types import SimpleNamespace

    from gradio.server_messages import EstimationMessage

    from hf_wbc.app.launch import keep_messages

    page = gr.Blocks().queue()
    events, waiting = page._queue, SimpleNamespace(alive=True, session_hash="old", _id="1")
    for keeps in (False, True):
        if keeps:
            keep_messages(page)
        messages = events.pending_messages_per_session
        for session in ("old", *map(str, range(messages.max_size))):
            messages[session] = Queue()
        assert "old" not in messages and len(messages) == messages.max_size
        if not keeps:
            with pytest.raises(KeyError):
                events.send_message(waiting, EstimationMessage(queue_size=1))
            continue
        events.send_message(waiting, EstimationMessage(queue_size=1))
        assert messages["old"].qsize() == 1 and len(messages) == messages.max_size
