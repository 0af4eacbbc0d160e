"""What visitors send is not quoted in the log of unexpected errors."""

import logging
from collections.abc import Iterator

import pytest

pytest.importorskip("gradio", reason="the page needs the extra app")

from hf_wbc.app.error_log import hide_messages

MODULES = ("queueing", "route_utils", "routes")


@pytest.fixture(autouse=True)
def undo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore Gradio's own log after the test."""
    import importlib

    for name in MODULES:
        module = importlib.import_module(f"gradio.{name}")
        monkeypatch.setattr(module, "traceback", module.traceback)
    yield


@pytest.mark.parametrize("name", MODULES)
def test_error_is_logged_by_type_and_location_only(
    name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    import importlib

    hide_messages()
    module = importlib.import_module(f"gradio.{name}")
    try:
        int("Jane Doe 1970.png")
    except ValueError:
        with caplog.at_level(logging.ERROR):
            module.traceback.print_exc()
            assert "Jane" in module.traceback.format_exc(), "other functions stay"
    assert "ValueError" in caplog.text and "test_error_log.py:" in caplog.text
    assert "Jane" not in caplog.text + "".join(capfd.readouterr())
