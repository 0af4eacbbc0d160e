"""The page opens before its model is there, and answers as soon as it is."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("gradio", reason="the page needs the extra app")

LATE = """
import time
from pathlib import Path
from hf_wbc.app.launch import launch, private
from hf_wbc.app.start import find_model, make_desk, make_ready

desk = make_desk(find_model(None, Path("runs")), (), {})
with private():
    page, url = launch(desk, "127.0.0.1", None)
    print("open", url, flush=True)
    while not Path("go").exists():
        time.sleep(0.05)
    make_ready(desk)
    page.block_thread()
"""
HEAVY = """
import sys
from hf_wbc.app.launch import private
with private():
    import hf_wbc.app.page
print([name for name in ("torch", "transformers", "matplotlib", "scipy") if name in sys.modules])
"""


def test_who_comes_early_is_told_and_answered_later(
    serve: Callable[..., Any], browser: Any
) -> None:
    late = serve(sys.executable, "-c", LATE)
    context = browser.new_context()
    context.set_default_timeout(120_000)
    page = context.new_page()
    page.goto(late.url)
    page.get_by_text("The model is still being loaded").wait_for()
    page.get_by_role("button", name="eosinophil").click()
    page.get_by_role("tab", name="About").click()
    assert page.locator("#about table").count() == 0
    (late.log.parent / "go").touch()
    page.locator("#about table").first.wait_for()
    assert not page.locator("#loading").is_visible()
    page.get_by_role("tab", name="One cell").click()
    page.locator("#one-result article").wait_for()
    context.close()


def test_the_page_opens_without_the_libraries_of_its_model() -> None:
    done = subprocess.run([sys.executable, "-c", HEAVY], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
