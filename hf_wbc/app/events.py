"""What all tabs do alike: the scale's box, the queue, and errors that are sentences."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr

from hf_wbc.app.desk import Desk
from hf_wbc.app.fragments import notice
from hf_wbc.app.scales import GUESS, choices

AT_ONCE = 2
"""Requests that are worked on at a time; all others see their place in the queue."""


@dataclass
class Failed:
    """What went wrong, as HTML; empty while nothing did."""

    html: str = ""


@contextmanager
def sentence_for() -> Iterator[Failed]:
    """Turn a person's mistake into a sentence on the page."""
    failed = Failed()
    try:
        yield failed
    except ValueError as error:
        failed.html = notice(f"{error}.", "warning")


def busy(name: str) -> dict[str, Any]:
    """Options of an event that asks the model: one queue for all, and no public endpoint."""
    return {
        "concurrency_id": "model",
        "concurrency_limit": AT_ONCE,
        "api_name": name.strip("/"),
        "api_visibility": "private",
    }


def scale_box(desk: Desk, elem_id: str) -> Any:
    """Where a person says the scale: a choice, or a number."""
    return gr.Dropdown(
        choices(desk.laboratories),
        value=GUESS,
        label="Scale: choose, or type µm per pixel",
        allow_custom_value=True,
        elem_id=elem_id,
    )
